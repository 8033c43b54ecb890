"""How a server is set up: places and secrets by flags, all else by the section `serve`.

The parent hands its setup to each child as flags of the same names.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bonexray.config import read_section
from bonexray.errors import ConfigError
from bonexray.serve_config import ServeConfig


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every child of a server is told."""

    store: Path
    """Folder of approved bundles."""
    trust: Path
    """What their signatures are verified with."""
    threads: int
    """How many views are read at a time."""
    config: ServeConfig
    audit: Path
    """Folder that answers are written down in."""
    clients: Path | None
    """File of those who may ask; None for everybody."""
    certificate: Path | None
    """Of TLS, with its chain; None for plain text."""
    key: Path | None
    """Of the certificate."""

    def flags(self) -> list[str]:
        """As `add_flags` reads them."""
        flags = ["--store", str(self.store), "--trust", str(self.trust)]
        flags += [f"--threads={self.threads}", "--params", self.config.model_dump_json()]
        places = {"clients": self.clients, "certificate": self.certificate, "key": self.key}
        for name, place in places.items():
            flags += [] if place is None else [f"--{name}", str(place)]
        return [*flags, "--audit", str(self.audit)]


def add_flags(parser: argparse.ArgumentParser, cores: int) -> None:
    """The flags that parent and child have in common.

    Args:
        parser: gets them.
        cores: that this process may use.
    """
    parser.add_argument(
        "--params",
        default="params.yaml",
        help="path of params.yaml, or its section `serve` as JSON",
    )
    parser.add_argument(
        "--store", type=Path, default=Path("release"), help="folder of approved bundles"
    )
    parser.add_argument(
        "--trust",
        type=Path,
        help="public key or root certificates that the bundle must be signed under; by default "
        "keys/release.pub beside the store",
    )
    parser.add_argument(
        "--threads",
        type=integer(1, 1024),
        default=cores,
        help="views read at a time, by default one for each core",
    )
    parser.add_argument(
        "--audit",
        type=Path,
        help="folder to write every answer down in; by default audit beside the store",
    )
    parser.add_argument(
        "--clients", type=Path, help="file of those who may ask; by default everybody may"
    )
    parser.add_argument("--certificate", type=Path, help="PEM file for TLS, with its chain")
    parser.add_argument("--key", type=Path, help="PEM file of the certificate's private key")


def read_setup(args: argparse.Namespace) -> Setup:
    """The setup that parsed flags name. Raises ConfigError."""
    if (args.certificate is None) != (args.key is None):
        raise ConfigError("--certificate and --key: expected both or neither")
    return Setup(
        store=args.store,
        trust=args.trust or args.store.parent / "keys/release.pub",
        threads=args.threads,
        config=read_section(args.params, ServeConfig),
        audit=args.audit or args.store.parent / "audit",
        clients=args.clients,
        certificate=args.certificate,
        key=args.key,
    )


def integer(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`, for argparse."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value}, expected {low} to {high}")
        return value

    return read


def usable_cores() -> int:
    """Cores that this process may use: those it is pinned to, within its cgroup's share."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
