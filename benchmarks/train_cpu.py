"""The CPU's part of `benchmarks.train`: our loop beside the bare step and beside a plain loop.

Every figure is a ratio of two runs that take turns.
"""

import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from tqdm import tqdm

from benchmarks.simulator import start_flow
from bonexray.artifacts import scratch_path, sha256_file
from bonexray.config import AugmentConfig, TrainConfig, read_section
from bonexray.images import ImageSpec, read_square
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components import augment
from components.batches import Source, Views, batches_of
from components.device import pick_device
from components.fit import start_fit, train_epoch

ROOT = Path(__file__).parents[1]
PARAMS = str(ROOT / "params.yaml")
ROUNDS = 5


class Loops:
    """Our loop, a plain one and the bare step, on the same files at one image size."""

    def __init__(self, folder: Path, size: int) -> None:
        """Args: folder: of normal/*.png and abnormal/*.png. size: of the network's input, px."""
        self._folder, self._size = folder, size
        self._config = read_section(PARAMS, TrainConfig)
        spec = ImageSpec(size=size, mean=0.2, std=0.2)
        self._policy = Policy(image=spec, augment=read_section(PARAMS, AugmentConfig))
        paths = sorted(folder.glob("*/*.png"))
        self._count = len(paths)
        views = Views(
            images=np.stack([read_square(path.read_bytes(), size) for path in paths]),
            rows=np.arange(len(paths)),
            labels=torch.tensor([int(path.parent.name == "abnormal") for path in paths]),
            parts=torch.zeros(len(paths), dtype=torch.int64),
        )
        self._source = Source(views, torch.ones(len(paths)), torch.device("cpu"))
        self._fit = start_fit(LimbNet("resnet18"), self._config, steps=1_000_000)
        self._plain = LimbNet("resnet18")
        self._plain_optimizer = torch.optim.Adam(self._plain.parameters())
        self._epoch = 0

    def ours(self) -> float:
        """Images a second of one epoch."""
        self._epoch += 1
        start = time.perf_counter()
        with tqdm(disable=True) as bar:
            train_epoch(self._fit, self._source, self._policy, self._config, self._epoch, bar)
        return self._count / (time.perf_counter() - start)

    def bare(self) -> float:
        """Images a second of forward, backward and optimizer step on one random batch."""
        size = self._config.batch_size
        images = torch.randn(size, 1, self._size, self._size)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(2, (size,))
        steps = len(batches_of(self._count, self._config, 1))
        self._fit.network.train()
        start = time.perf_counter()
        for _ in range(steps):
            loss = nn.functional.cross_entropy(self._fit.network(images).label_logits, labels)
            self._fit.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._fit.optimizer.step()
        return size * steps / (time.perf_counter() - start)

    def plain(self) -> float:
        """Images a second of the loop that everyone writes first."""
        transform = v2.Compose(
            [
                v2.Grayscale(),
                v2.Resize((self._size, self._size)),
                v2.RandomHorizontalFlip(),
                v2.RandomAffine(15, (0.05, 0.05), (0.9, 1.1)),
                v2.ColorJitter(0.1, 0.2),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.2], [0.2]),
            ]
        )
        files = ImageFolder(str(self._folder), transform)
        loader = DataLoader(
            files, self._config.batch_size, shuffle=True, num_workers=2, drop_last=True
        )
        self._plain.train()
        seen, start = 0, time.perf_counter()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(self._plain(images).label_logits, labels)
            self._plain_optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._plain_optimizer.step()
            seen += len(images)
        return seen / (time.perf_counter() - start)


def median_ratio(one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Median of one over other, in turns after a warm-up; and the median of `one` itself."""
    one(), other()
    pairs = [(one(), other()) for _ in range(ROUNDS)]
    return (
        statistics.median(a / b for a, b in pairs),
        statistics.median(a for a, _ in pairs),
    )


def unpack(archive: Path, folder: Path, count: int) -> Path:
    """Some of the archive's images, by label, as files."""
    with zipfile.ZipFile(archive) as source:
        names = [name for name in source.namelist() if name.endswith(".png")]
        for number, name in enumerate(names[:: len(names) // count][:count]):
            label = "abnormal" if "positive" in name else "normal"
            target = folder / label / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(io.BytesIO(source.read(name))).save(target)
    return folder


def speed_figures(folder: Path) -> dict[str, float]:
    """The loop beside the bare step and a plain loop, at two image sizes."""
    pick_device(read_section(PARAMS, TrainConfig).threads)
    figures: dict[str, float] = {}
    for size, count in ((96, 512), (224, 128)):
        loops = Loops(unpack(folder / "sim.zip", folder / f"files{size}", count), size)
        over_bare, speed = median_ratio(loops.ours, loops.bare)
        over_plain, _ = median_ratio(loops.ours, loops.plain)
        figures |= {
            f"cpu_images_{size}": speed,
            f"cpu_vs_bare_step_{size}": over_bare,
            f"cpu_vs_plain_{size}": over_plain,
        }
    return figures


def resume_figures(folder: Path) -> dict[str, float]:
    """Whether a run killed between two epochs ends, run again, in the weights of a whole one."""
    params: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"] |= {"epochs": 3}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))

    def training(out: str) -> subprocess.Popen[bytes]:
        flags = ["--params", "params.yaml", "--arch", "resnet18", "--dataset", "dataset"]
        flags += ["--validated", "validated", "--policy", "policy", "--out", out]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "components.train", *flags]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    assert training("whole").wait() == 0
    killed = training("killed")
    while not scratch_path(folder / "killed", "checkpoint").exists():
        assert killed.poll() is None, "it ended before it was seen to write"
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert training("killed").wait() == 0
    whole, again = (
        sha256_file(folder / f"{out}/weights.safetensors") for out in ("whole", "killed")
    )
    return {"resume_equal": whole == again}


def measure() -> Iterator[tuple[str, float]]:
    """Name and value of each figure."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        step = start_flow(folder, {"simulate": {"scale": 0.015}})
        data = ("--dataset", "@dataset", "--validated", "@validated")
        step(augment.main, *data, "--out", "@policy")
        for figures in (speed_figures, resume_figures):
            yield from figures(folder).items()
