"""Where a network is trained, and in which arithmetic."""

import os

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
