"""Views through decoder and network: one view is one job, on as many threads as there are cores.

On a CPU each job runs the network on its own thread: threads of one network gain less than views
beside each other, and spin while they wait. On a GPU jobs meet in batches.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import onnxruntime as ort

from bonexray.analysis import (
    Floats32,
    NetworkOutputs,
    Precision,
    choose_precision,
    load_network,
    run_network,
    try_network,
)
from bonexray.bundle import OUTPUTS, Bundle
from bonexray.images import normalise
from serving.admission import Workload
from serving.oip.errors import DeadlineError
from serving.reading import DecodedView, decode_view
from serving.studies import AskedView

Answer = TypeVar("Answer")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_MOST_IN_BATCH = 32
_JOBS_PER_CORE_OF_A_GPU = 4
"""They wait for their batch most of the time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadView:
    """A view, and what the network says of it."""

    decoded: DecodedView
    outputs: NetworkOutputs | None
    """Of this view alone; None when the network did not see it."""
    waited_s: float
    """From the request's arrival here to the job's begin."""
    inferred_s: float
    """That the network took."""


class Engine:
    """The network of one bundle, and the threads that read views with it."""

    def __init__(self, bundle: Bundle, threads: int, precision: Precision) -> None:
        """Open the network.

        Args:
            bundle: whose network it is.
            threads: how many views are read at a time on a CPU.
            precision: wished; `precision` is what this bundle and this CPU come to.

        Raises:
            BundleError: the network cannot be run or does not keep the bundle's contract.
        """
        gpu = _CUDA in ort.get_available_providers()
        self.precision: Precision = "fp32" if gpu else choose_precision(bundle, precision)
        self._bundle = bundle
        session = load_network(
            bundle, precision=self.precision, providers=([_CUDA] if gpu else []) + [_CPU]
        )
        self.map_shape = try_network(session, bundle, precision=self.precision).cams.shape[1:]
        """(h, w) of the map of evidence."""
        self._session = session
        self._run: Callable[[Floats32], NetworkOutputs] = partial(run_network, session)
        self._on_gpu = _CUDA in session.get_providers()  # not where its libraries are missing
        jobs = threads * (_JOBS_PER_CORE_OF_A_GPU if self._on_gpu else 1)
        self.load = Workload(jobs)
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="view")

    def start(self) -> None:
        """Let views meet in batches from now on, where that gains something.

        Called by a thread of full priority, which the one that runs batches takes over from it.
        """
        if self._on_gpu:
            self._run = Batcher(self._session).run

    async def read(
        self,
        views: Sequence[AskedView],
        deadline_s: float,
        then: Callable[[list[ReadView]], Answer],
    ) -> Answer:
        """Read views side by side, and let the thread that reads the last one go on with `then`.

        Raises:
            BadRequestError: the first of them that is no image.
            DeadlineError: `deadline_s` (of `time.monotonic`) came before all were begun.
        """
        reading, asked_s = _Reading(len(views), then), time.monotonic()
        self.load.add(len(views))
        jobs = [
            self._pool.submit(
                reading.take, at, partial(self._job, view, at + 1, asked_s, deadline_s)
            )
            for at, view in enumerate(views)
        ]
        for job in jobs:
            job.add_done_callback(self._forget)
        try:
            return await asyncio.wrap_future(reading.answer)
        except asyncio.CancelledError:
            for job in jobs:
                job.cancel()
            raise

    def read_now(self, views: Sequence[AskedView]) -> list[ReadView]:
        """As `read`, in this thread and without a deadline."""
        self.load.add(len(views))
        now_s = time.monotonic()
        return [
            self._job(view, number, now_s, float("inf"))
            for number, view in enumerate(views, start=1)
        ]

    def _forget(self, job: "Future[None]") -> None:
        """Of a client that left, what waited is never begun, and is not waited for."""
        if job.cancelled():
            self.load.done(None)

    def _job(self, view: AskedView, number: int, asked_s: float, deadline_s: float) -> ReadView:
        began_s, took_s = time.monotonic(), None
        try:
            if began_s > deadline_s:
                raise DeadlineError("the deadline came before the views could be read")
            decoded = decode_view(view, number, self._bundle.info.image.size)
            inferring_s = time.monotonic()
            outputs = None
            if decoded.square is not None:
                outputs = self._run(normalise(decoded.square[None], self._bundle.info.image))
            ended_s = time.monotonic()
            took_s = ended_s - began_s
            return ReadView(
                decoded=decoded,
                outputs=outputs,
                waited_s=began_s - asked_s,
                inferred_s=ended_s - inferring_s,
            )
        finally:
            self.load.done(took_s)


class _Reading(Generic[Answer]):
    """The views of one request, each read by whichever thread takes it."""

    def __init__(self, count: int, then: Callable[[list[ReadView]], Answer]) -> None:
        self.answer: Future[Answer] = Future()
        self._then = then
        self._found: list[ReadView | BaseException | None] = [None] * count
        self._left = count
        self._lock = threading.Lock()

    def take(self, at: int, read: Callable[[], ReadView]) -> None:
        try:
            self._found[at] = read()
        except BaseException as error:  # told by the future, to whoever waits for it
            self._found[at] = error
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last and self.answer.set_running_or_notify_cancel():
            self._finish()

    def _finish(self) -> None:
        try:
            for outcome in self._found:
                if isinstance(outcome, BaseException):
                    raise outcome
            views = [outcome for outcome in self._found if isinstance(outcome, ReadView)]
            self.answer.set_result(self._then(views))
        except BaseException as error:
            self.answer.set_exception(error)


class Batcher:
    """Runs what waits as one batch, as soon as the batch before is done.

    No view waits for a batch to fill: while the network is busy, one gathers by itself.
    """

    def __init__(self, session: ort.InferenceSession) -> None:
        """Begin to wait for views."""
        self._session = session
        self._waiting: queue.SimpleQueue[tuple[Floats32, Future[NetworkOutputs]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="batches", daemon=True).start()

    def run(self, image: Floats32) -> NetworkOutputs:
        """What the network says of one view, (1, 1, S, S), when its batch is done."""
        answer: Future[NetworkOutputs] = Future()
        self._waiting.put((image, answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _MOST_IN_BATCH:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            self._answer(batch)

    def _answer(self, batch: list[tuple[Floats32, "Future[NetworkOutputs]"]]) -> None:
        try:
            images = np.concatenate([image for image, _ in batch])
            arrays = self._session.run(OUTPUTS, {"image": images})
        except Exception as error:  # whose it is, each caller is told
            for _, answer in batch:
                answer.set_exception(error)
            return
        for at, (_, answer) in enumerate(batch):
            logits, part_logits, cams, embeddings = (array[at : at + 1] for array in arrays)
            answer.set_result(
                NetworkOutputs(
                    logits=logits, part_logits=part_logits, cams=cams, embeddings=embeddings
                )
            )
