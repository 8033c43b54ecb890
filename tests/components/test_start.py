from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from bonexray.artifacts import sha256_file
from bonexray.errors import DataError
from bonexray.network import LimbNet
from components.start import load_start


def saved(folder: Path, weights: object, digest: str = "") -> Path:
    """A file named as torchvision names its own; `digest` in place of the true one."""
    unnamed = folder / "weights"
    torch.save(weights, unnamed)
    return unnamed.rename(folder / f"resnet18-{digest or sha256_file(unnamed)[:8]}.pth")


@pytest.fixture
def torchvisions() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return resnet18(weights=None).state_dict()


def test_a_grey_image_gives_the_features_that_three_equal_channels_give(
    tmp_path: Path, torchvisions: dict[str, torch.Tensor]
) -> None:
    network = LimbNet("resnet18").eval()
    path = saved(tmp_path, torchvisions)
    assert load_start(network, "resnet18", str(path)) == f"{path.name} sha256:{sha256_file(path)}"
    original = resnet18(weights=None).eval()
    original.load_state_dict(torchvisions)
    original.fc = torch.nn.Identity()  # type: ignore[assignment]
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(
        network(grey).embedding, original(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4
    )


def test_the_heads_keep_their_random_weights(
    tmp_path: Path, torchvisions: dict[str, torch.Tensor]
) -> None:
    network = LimbNet("resnet18")
    before = network.label_head.weight.clone()
    load_start(network, "resnet18", str(saved(tmp_path, torchvisions)))
    assert torch.equal(network.label_head.weight, before)


def test_imagenet_that_is_not_to_be_had_is_told_and_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = LimbNet("resnet18")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    told = load_start(network, "resnet18", "imagenet")
    assert told == "random: torchvision's cache holds no resnet18-f37072fd.pth"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_cached_file_that_is_not_torchvisions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"SHA-256 is .*, but its name says f37072fd"):
        load_start(LimbNet("resnet18"), "resnet18", "imagenet")


def test_a_file_of_another_digest_than_its_name_says_is_refused(
    tmp_path: Path, torchvisions: dict[str, torch.Tensor]
) -> None:
    path = saved(tmp_path, torchvisions, digest="0" * 8)
    with pytest.raises(DataError, match="but its name says 00000000"):
        load_start(LimbNet("resnet18"), "resnet18", str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.pth", "expected a name that ends in the digest"),
        ("resnet18-f37072fd.pth", "no such file"),
    ],
)
def test_a_path_that_is_none_of_torchvisions_files_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_start(LimbNet("resnet18"), "resnet18", str(tmp_path / name))


@pytest.mark.parametrize("weights", [{"conv1.weight": torch.zeros(64, 3, 7, 7)}, {}, [1, 2]])
def test_weights_of_another_network_are_refused_with_the_file(
    tmp_path: Path, weights: object
) -> None:
    path = saved(tmp_path, weights)
    with pytest.raises(DataError, match="not weights for this network") as error:
        load_start(LimbNet("resnet18"), "resnet18", str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
