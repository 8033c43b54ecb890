"""Where a network is trained, and in which arithmetic."""

import os
import platform
from pathlib import Path

import torch


def pick_device(threads: int) -> torch.device:
    """This process's GPU when there is one; deterministic arithmetic, a fixed number of threads."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic else
    torch.use_deterministic_algorithms(True)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def describe_hardware() -> str:
    """The processor and the GPUs of this machine, in words."""
    names = [f"{_processor()}, {os.cpu_count()} cores"]
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        names += [f"{gpus.count(name)} x {name}" for name in sorted(set(gpus))]
    return "; ".join(names)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
