"""The weights a network starts from: torchvision's, of ImageNet, fitted to one grey channel.

torchvision's own files, named as it names them: the digest's first digits stand in the name and
are checked. They come from its cache (`TORCH_HOME`, or what it chooses itself) or from a path;
nothing is downloaded.
"""

import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from bonexray.artifacts import sha256_file
from bonexray.config import Arch
from bonexray.errors import DataError
from bonexray.network import LimbNet

RANDOM, IMAGENET = "random", "imagenet"
_NAMED_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.pth$")


def load_start(network: LimbNet, arch: Arch, start: str) -> str:
    """Put the start weights into a fresh network.

    Args:
        network: with random weights; its heads keep them.
        arch: what it is.
        start: `random`, `imagenet` or the path of a file, as `train.start` says.

    Returns:
        What the network starts from, for its record: `random`, or a file's name and SHA-256. When
        `imagenet` was asked for and is not to be had: `random`, and why.

    Raises:
        DataError: the file named is missing, is not what its name says or fits another network.
    """
    if start == RANDOM:
        return RANDOM
    if start == IMAGENET:
        path = cached(arch)
        if not path.exists():
            return f"{RANDOM}: torchvision's cache holds no {path.name}"
    else:
        path = Path(start)
    digest = _checked(path)
    _fill(network, path)
    return f"{path.name} sha256:{digest}"


def cached(arch: Arch) -> Path:
    """Where torchvision keeps the ImageNet weights of a network when it has fetched them."""
    url: str = get_model_weights(arch)["IMAGENET1K_V1"].url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _checked(path: Path) -> str:
    named = _NAMED_DIGEST.search(path.name)
    if named is None:
        raise DataError(
            f"{path}: expected a name that ends in the digest, as torchvision's do "
            "(resnet18-f37072fd.pth)"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file of start weights")
    digest = sha256_file(path)
    if not digest.startswith(named[1]):
        raise DataError(f"{path}: SHA-256 is {digest}, but its name says {named[1]}")
    return digest


def _fill(network: LimbNet, path: Path) -> None:
    try:
        stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        grey = one_channel(stored)
        kept = network.state_dict()
        heads = {name: kept[name] for name in kept if "_head." in name}
        network.load_state_dict(grey | heads)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not weights for this network: {reason}") from error


def one_channel(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet's weights under LimbNet's names, its classifier left out.

    A grey image in all three channels gives what the sum of their kernels gives in one.
    """
    stem = stored["conv1.weight"].sum(dim=1, keepdim=True)
    order = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    renamed = {}
    for name, value in (stored | {"conv1.weight": stem}).items():
        block, _, rest = name.partition(".")
        if block in order:
            renamed[f"features.{order.index(block)}.{rest}"] = value
    return renamed
