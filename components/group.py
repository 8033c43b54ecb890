"""Processes that train one network together, each on its share of every batch.

`torchrun` starts them, or `run_grouped` does. A process that nobody grouped is a group of one.
"""

import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bonexray.command import run_or_exit
from bonexray.config import TrainConfig, read_section
from bonexray.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Group:
    """One process's place among those that train together."""

    rank: int
    size: int

    def share(self, items: Tensor) -> Tensor:
        """This process's part of (B,) items, in their order; parts differ by one at most."""
        return torch.tensor_split(items, self.size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of the processes' values, of one shape, in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


ALONE = Group(rank=0, size=1)
_FIRST_SPEAKS = 5.0
"""Seconds within which torchrun ends the others when the first has failed."""


def _is_grouped() -> bool:
    """Whether torchrun, or `run_grouped`, started this process."""
    return {"RANK", "WORLD_SIZE"} <= set(os.environ)


@contextmanager
def joined(processes: int) -> Iterator[Group]:
    """Be one of the processes that train together; only the first of them talks.

    Args:
        processes: how many there should be.

    Raises:
        ConfigError: there are more or fewer, or more than this machine has GPUs, or cores.
    """
    if not _is_grouped():
        yield ALONE
        return
    with _silenced() if int(os.environ["RANK"]) else contextlib.nullcontext():
        try:
            _refuse_others(processes)
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            yield Group(rank=dist.get_rank(), size=dist.get_world_size())
        except Exception:
            if int(os.environ["RANK"]):
                # What befalls all of them the first has told by then, and this one was ended.
                time.sleep(_FIRST_SPEAKS)
            raise
        dist.destroy_process_group()  # after an error it would wait for the others


def _refuse_others(processes: int) -> None:
    started = int(os.environ["WORLD_SIZE"])
    if started != processes:
        raise ConfigError(
            f"torchrun started {started} processes, but train.processes = {processes}; "
            "weights depend on their number, so it is a parameter"
        )
    _refuse_crowd(processes, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _refuse_crowd(processes: int, here: int) -> None:
    on_gpu = torch.cuda.is_available()
    places = torch.cuda.device_count() if on_gpu else os.cpu_count() or 1
    if here > places:
        raise ConfigError(
            f"train.processes = {processes}, {here} of them here, where there are {places} "
            f"{'GPUs' if on_gpu else 'cores'}; expected one for each"
        )


@contextmanager
def _silenced() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def run_grouped(
    name: str,
    params: str,
    main: Callable[[Sequence[str]], None],
    argv: Sequence[str] | None,
    run: Callable[[TrainConfig, Group], None],
) -> None:
    """Call `run` in each of `train.processes` processes, started here unless torchrun has done it.

    Args:
        name: of the command, as `run_or_exit` takes it.
        params: path of params.yaml, or its section `train` as JSON.
        main: the command line that this is called from; new processes enter there.
        argv: its arguments; None for this program's own.
        run: what each process does.

    Raises:
        SystemExit: as `run_or_exit`, and when a new process failed; it has said why.
    """

    def start() -> None:
        config = read_section(params, TrainConfig)
        if config.processes > 1 and not _is_grouped():
            _refuse_crowd(config.processes, config.processes)
            _start_processes(config.processes, main, sys.argv[1:] if argv is None else list(argv))
            return
        with joined(config.processes) as group:
            run(config, group)

    run_or_exit(name, start)


def _start_processes(
    count: int, main: Callable[[Sequence[str]], None], argv: Sequence[str]
) -> None:
    """Call `main(argv)` in `count` new processes of this machine, as torchrun would, and wait."""
    # A worker has said itself what ailed it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, _in_process)(main, argv)
        except ChildFailedError as error:
            raise SystemExit(1) from error
        except SignalException as error:
            raise SystemExit(128 + error.sigval) from error


def _in_process(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        main(argv)
    except Exception as error:  # which the launcher would keep to itself
        traceback.print_exc()
        raise SystemExit(1) from error


def _end_with(parent: int) -> None:
    """End when the process that started this one was killed: a second run may start at once."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
