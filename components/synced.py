"""Batch norm whose statistics are those of the whole batch when several processes share it.

torch's own SyncBatchNorm does it on a GPU and refuses a CPU.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bonexray.network import LimbNet


def synchronise(network: LimbNet) -> None:
    """Let every batch norm of a network see the batch of all processes. Its weights stay."""
    if next(network.parameters()).is_cuda:
        synced = nn.SyncBatchNorm.convert_sync_batchnorm(network.features)  # type: ignore[no-untyped-call]
        network.features = synced
        return
    for norm in network.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = _BatchNormOnCpu


class _BatchNormOnCpu(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the images of every process."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Normalise (b, C, h, w), this process's share of the batch."""
        if not self.training:
            return super().forward(input)
        channels = (1, -1, 1, 1)
        count = _total(input.new_tensor(input.numel() / input.shape[1]))
        mean = _total(input.sum(dim=(0, 2, 3))) / count  # (C,)
        centred = input - mean.view(channels)
        variance = _total(centred.square().sum(dim=(0, 2, 3))) / count  # (C,)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)  # type: ignore[union-attr, arg-type]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(channels) + self.bias.view(channels)


class _Total(torch.autograd.Function):
    """The sum of the processes' values; what flows back is summed likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _total(gradient.contiguous())


def _total(values: Tensor) -> Tensor:
    return _Total.apply(values)  # type: ignore[no-any-return]
