"""The GPU's part of `benchmarks.train`: images a second, a whole run, time the GPU waits.

Images are noise with MURA's number and the size of its recipe: what is measured is the loop.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from safetensors.torch import save_file
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from bonexray.config import Arch, AugmentConfig, TrainConfig
from bonexray.images import ImageSpec
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components.batches import Source, Views
from components.device import pick_device
from components.fit import Fit, run_epochs, start_fit, train_epoch

SIDE, MURA_TRAIN, MURA_EPOCHS = 224, 36_808, 25
BATCH = {"resnet18": 512, "resnet50": 256, "resnet101": 256}
ROUNDS = 3
POLICY = Policy(
    image=ImageSpec(size=SIDE, mean=0.2, std=0.2),
    augment=AugmentConfig(
        seed=0, flip_probability=0.5, rotate_degrees=30, translate_fraction=0.05,
        scale_fraction=0.1, brightness_fraction=0.1, contrast_fraction=0.2,
    ),
)  # fmt: skip


def config_of(arch: Arch) -> TrainConfig:
    """A recipe with everything that costs time but mixup and the average."""
    return TrainConfig(
        seed=0, epochs=MURA_EPOCHS, batch_size=BATCH[arch], start="random", learning_rate=1e-3,
        weight_decay=1e-4, schedule="one_cycle", plateau_patience=0, plateau_factor=0.1,
        weighting="none", label_smoothing=0, mixup_alpha=0, ema_decay=0, first_size_fraction=1,
        part_loss_weight=0.1, threads=8, processes=1,
    )  # fmt: skip


def noise(count: int, device: torch.device) -> Source:
    """Views of noise, half of them abnormal."""
    generator = np.random.default_rng(0)
    views = Views(
        images=generator.integers(0, 256, (count, SIDE, SIDE), np.uint8),
        rows=np.arange(count),
        labels=torch.arange(count) % 2,
        parts=torch.arange(count) % 7,
    )
    return Source(views, torch.ones(count), device)


def epoch_seconds(fit: Fit, source: Source, config: TrainConfig, epoch: int) -> float:
    """One epoch, all of its work done."""
    start = time.perf_counter()
    with tqdm(disable=True) as bar:
        train_epoch(fit, source, POLICY, config, epoch, bar)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def idle_share(fit: Fit, source: Source, config: TrainConfig) -> float:
    """Share of an epoch in which no kernel ran; they run one after the other, on one stream."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = epoch_seconds(fit, source, config, epoch=1 + ROUNDS)
    busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return float(1 - busy / seconds)


def whole_run(device: torch.device) -> float:
    """Seconds from building the network to its weights on disk, R18, MURA's number of images."""
    learning, judging = noise(MURA_TRAIN, device), noise(3_197, device)
    config = config_of("resnet18")
    start = time.perf_counter()
    steps = -(-len(learning) // config.batch_size) * config.epochs
    fit = start_fit(LimbNet("resnet18").to(device), config, steps)
    run_epochs(fit, learning, judging, POLICY, config, lambda _: None)
    weights = {name: value.cpu().contiguous() for name, value in fit.best_weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_file(weights, Path(folder) / "weights.safetensors")
    return time.perf_counter() - start


def measure() -> Iterator[tuple[str, float]]:
    """Name and value of each figure."""
    device = pick_device(threads=8)
    source = noise(8_192, device)
    for arch in get_args(Arch):
        config = config_of(arch)
        steps = -(-len(source) // config.batch_size) * (2 + ROUNDS)
        fit = start_fit(LimbNet(arch).to(device), config, steps)
        epoch_seconds(fit, source, config, epoch=1)
        seconds = [epoch_seconds(fit, source, config, 2 + number) for number in range(ROUNDS)]
        yield (
            f"gpu_images_{arch.replace('resnet', 'r')}",
            len(source) / sorted(seconds)[ROUNDS // 2],
        )
        if arch == "resnet18":
            yield "gpu_idle", idle_share(fit, source, config)
    yield "gpu_run_seconds", whole_run(device)
