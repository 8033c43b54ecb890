import pytest
import torch

from bonexray.config import Arch
from bonexray.network import LimbNet, abnormal_logit


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
