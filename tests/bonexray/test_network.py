import pytest
import torch

from bonexray.config import Arch
from bonexray.network import BothWays, Ensemble, FineMap, LimbNet, abnormal_logit


@pytest.mark.parametrize(
    ("arch", "depth"), [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048)]
)
def test_every_network_reads_a_batch_of_grey_views(arch: Arch, depth: int) -> None:
    with torch.inference_mode():
        reading = LimbNet(arch).eval()(torch.randn(2, 1, 64, 64))
    assert reading.label_logits.shape == (2, 2)
    assert reading.part_logits.shape == (2, 7)
    assert reading.embedding.shape == (2, depth)
    assert reading.cam.shape[0] == 2


def test_the_activation_map_averages_to_the_logit_it_explains() -> None:
    with torch.inference_mode():
        reading = LimbNet("resnet18").eval()(torch.randn(3, 1, 96, 96))
    torch.testing.assert_close(reading.cam.mean(dim=(1, 2)), abnormal_logit(reading.label_logits))


def lively(arch: Arch, seed: int = 0) -> LimbNet:
    """A network whose batch normalisation does something, as a trained one's does."""
    torch.manual_seed(seed)
    network = LimbNet(arch).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("size", "cells"), [(32, 2), (96, 6), (100, 7)])
def test_a_fine_map_has_twice_the_cells_and_the_same_answers(
    arch: Arch, size: int, cells: int
) -> None:
    network = lively(arch)
    views = torch.randn(2, 1, size, size)
    with torch.inference_mode():
        plain, fine = network(views), FineMap(network)(views)
        again = network(views)
    assert fine.cam.shape == (2, cells, cells)
    torch.testing.assert_close(fine.label_logits, plain.label_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fine.part_logits, plain.part_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fine.embedding, plain.embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(again.cam, plain.cam, rtol=0, atol=0)  # it was not altered


def test_an_ensemble_answers_with_the_mean_and_keeps_the_first_ones_embedding() -> None:
    members = [lively("resnet18", seed) for seed in (0, 1)]
    views = torch.randn(3, 1, 64, 64)
    with torch.inference_mode():
        one, other = (member(views) for member in members)
        together = Ensemble(members)(views)
    mean = (abnormal_logit(one.label_logits) + abnormal_logit(other.label_logits)) / 2
    torch.testing.assert_close(abnormal_logit(together.label_logits), mean)
    torch.testing.assert_close(together.cam, (one.cam + other.cam) / 2)
    torch.testing.assert_close(together.embedding, one.embedding)


def test_read_both_ways_a_mirror_image_has_the_mirrored_map() -> None:
    both = BothWays(FineMap(lively("resnet18")))
    views = torch.randn(2, 1, 96, 96)
    with torch.inference_mode():
        seen, mirrored = both(views), both(views.flip(-1))
    torch.testing.assert_close(seen.label_logits, mirrored.label_logits)
    torch.testing.assert_close(seen.cam, mirrored.cam.flip(-1))
