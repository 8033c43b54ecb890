"""The network: a torchvision ResNet on one grey channel, with a second head for the body part.

`LimbNet` is what is trained; `FineMap`, `BothWays` and `Ensemble` are ways of reading with it that
need no further training.

B batch, S side of the image, h x w a feature map, D its channels.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.models import get_model

from bonexray.config import Arch
from bonexray.studies import BODY_PARTS, LABELS


class Reading(NamedTuple):
    """What the network says of a batch of views."""

    label_logits: Tensor  # (B, 2) normal, abnormal
    part_logits: Tensor  # (B, 7)
    cam: Tensor  # (B, h, w) evidence for abnormal over normal, in units of the logit
    embedding: Tensor  # (B, D)


class LimbNet(nn.Module):
    """ResNet with global average pooling and two linear heads.

    With such a net the class-activation map needs no gradient: it is the last feature map weighted
    by the classifier's row (Zhou et al., Learning Deep Features for Discriminative Localization,
    CVPR 2016), so it comes out of the same pass.
    """

    def __init__(self, arch: Arch) -> None:
        """Build it with fresh weights."""
        super().__init__()
        resnet = get_model(arch, weights=None)
        depth = resnet.fc.in_features
        resnet.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.features = nn.Sequential(*list(resnet.children())[:-2])
        self.label_head = nn.Linear(depth, len(LABELS))
        self.part_head = nn.Linear(depth, len(BODY_PARTS))

    def forward(self, image: Tensor) -> Reading:
        """Read a batch of normalised views, (B, 1, S, S) float32."""
        features = self.features(image)  # (B, D, h, w)
        return self.heads(features.mean(dim=(2, 3)), features)

    def heads(self, embedding: Tensor, features: Tensor) -> Reading:
        """What the heads say of an embedding (B, D), and where features (B, D, h, w) show it.

        The map's mean is the logit when the embedding is the features' mean.
        """
        row = self.label_head.weight[1] - self.label_head.weight[0]  # (D,)
        bias = self.label_head.bias[1] - self.label_head.bias[0]
        cam = torch.einsum("bdhw,d->bhw", features, row) + bias
        return Reading(self.label_head(embedding), self.part_head(embedding), cam, embedding)


class FineMap(nn.Module):
    """A trained network with the same answers, whose map has twice as many cells each way.

    The last stage runs without its stride and with its later kernels spread by two (the algorithme
    à trous), so that every other cell of its features is the trained network's own: 6 x 6 cells in
    place of 3 x 3 at 96 px, 14 x 14 at 224 px.
    """

    def __init__(self, network: LimbNet) -> None:
        """Args: network: trained; it is copied, its weights stay as they are."""
        super().__init__()
        self.network = copy.deepcopy(network)
        last_stage = self.network.features[-1]
        for module in last_stage.modules():
            if isinstance(module, nn.Conv2d):
                if module.stride == (2, 2):
                    module.stride = (1, 1)
                elif module.kernel_size == (3, 3):
                    module.dilation = module.padding = (2, 2)

    def forward(self, image: Tensor) -> Reading:
        """Read a batch as `LimbNet.forward` does, with a map of S / 16 cells each way."""
        features = self.network.features(image)
        reading = self.network.heads(features[:, :, ::2, ::2].mean(dim=(2, 3)), features)
        # A cell looks at the pixel in its upper left corner: a strided kernel starts at pixel 0.
        # The mean with its neighbours looks at its middle, where whoever draws the map puts it.
        padded = F.pad(reading.cam[:, None], (0, 1, 0, 1), mode="replicate")
        return reading._replace(cam=F.avg_pool2d(padded, 2, stride=1)[:, 0])


class BothWays(nn.Module):
    """A network that reads each view and its mirror image, and answers with their mean.

    Left and right limbs are each other's mirror images. It takes twice the time.
    """

    def __init__(self, network: nn.Module) -> None:
        """Args: network: `LimbNet` or `FineMap`."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Reading:
        """Read a batch as `LimbNet.forward` does; the maps lie on the views as they are."""
        seen, mirrored = self.network(image), self.network(image.flip(-1))
        mirrored = mirrored._replace(cam=mirrored.cam.flip(-1))
        return Reading(*((one + other) / 2 for one, other in zip(seen, mirrored, strict=True)))


class Ensemble(nn.Module):
    """Several networks that answer with the mean of their logits and maps.

    The embedding is the first one's: side by side they would make 17 MB of statistics 85.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Args: networks: each as it reads alone, on images normalised alike."""
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Reading:
        """Read a batch as `LimbNet.forward` does."""
        readings = [network(image) for network in self.networks]
        labels, parts, cams, embeddings = zip(*readings, strict=True)
        label, part, cam = (torch.stack(each).mean(0) for each in (labels, parts, cams))
        return Reading(label, part, cam, embeddings[0])


def abnormal_logit(label_logits: Tensor) -> Tensor:
    """(B, 2) -> (B,): the logit of abnormal against normal, as two-class softmax sees it."""
    return label_logits[:, 1] - label_logits[:, 0]
