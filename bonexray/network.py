"""The network: a torchvision ResNet on one grey channel, with a second head for the body part.

B batch, S side of the image, h x w the last feature map, D its channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from bonexray.config import Arch
from bonexray.studies import BODY_PARTS, LABELS


class Reading(NamedTuple):
    """What the network says of a batch of views."""

    label_logits: Tensor  # (B, 2) normal, abnormal
    part_logits: Tensor  # (B, 7)
    cam: Tensor  # (B, h, w); its mean over (h, w) is the abnormal-over-normal logit
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
        embedding = features.mean(dim=(2, 3))  # (B, D)
        row = self.label_head.weight[1] - self.label_head.weight[0]  # (D,)
        bias = self.label_head.bias[1] - self.label_head.bias[0]
        cam = torch.einsum("bdhw,d->bhw", features, row) + bias
        return Reading(self.label_head(embedding), self.part_head(embedding), cam, embedding)


class BothWays(nn.Module):
    """A network that reads each view and its mirror image, and answers with their mean.

    Left and right limbs are each other's mirror images. It takes twice the time.
    """

    def __init__(self, network: LimbNet) -> None:
        """Args: network: reads one view."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Reading:
        """Read a batch as `LimbNet.forward` does; the maps lie on the views as they are."""
        seen, mirrored = self.network(image), self.network(image.flip(-1))
        mirrored = mirrored._replace(cam=mirrored.cam.flip(-1))
        return Reading(*((one + other) / 2 for one, other in zip(seen, mirrored, strict=True)))


def abnormal_logit(label_logits: Tensor) -> Tensor:
    """(B, 2) -> (B,): the logit of abnormal against normal, as two-class softmax sees it."""
    return label_logits[:, 1] - label_logits[:, 0]
