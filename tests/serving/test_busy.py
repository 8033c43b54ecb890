"""More is asked than can be answered: who is let in, who is sent away, and what both are told."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from bonexray.analysis import load_network, run_network
from bonexray.images import normalise, read_square
from serving.admission import Admission, Workload
from serving.engine import Batcher, Engine
from serving.oip.errors import BusyError, DeadlineError
from serving.studies import AskedView
from tests.serving.live import QUICK


def test_a_request_is_let_in_as_long_as_it_would_begin_in_time():
    load = Workload(jobs=2)
    for _ in range(400):
        load.add(1)
        load.done(0.1)  # the mean is 0.1 s now
    admission = Admission(load, max_wait_s=1.0, max_held_bytes=1000)
    for _ in range(20):
        load.add(1)
    with admission.hold(1):
        pass  # 19 before it, by two, is 0.95 s
    for _ in range(3):
        load.add(1)
    with pytest.raises(BusyError) as refused, admission.hold(1):
        pass
    assert "an answer would wait 1.1 s" in str(refused.value)
    assert int(refused.value.headers()["Retry-After"]) >= 1


def test_whoever_asks_when_nobody_waits_is_let_in_whatever_was_asked_before():
    load = Workload(jobs=2)
    for _ in range(100):
        load.add(64)
        for _ in range(64):
            load.done(1.0)
    with Admission(load, max_wait_s=5, max_held_bytes=1000).hold(1):
        pass


def test_requests_that_have_not_said_how_many_views_they_hold_count_as_one_each():
    admission = Admission(Workload(jobs=1), max_wait_s=0.2, max_held_bytes=1000)
    with ExitStack() as held:
        for _ in range(5):  # 0.05 s each is what is guessed before the first view
            held.enter_context(admission.hold(1))
        with pytest.raises(BusyError):
            held.enter_context(admission.hold(1))
    assert admission.wait_s() == 0


def test_requests_of_many_views_are_expected_to_hold_as_many():
    load = Workload(jobs=1)
    for _ in range(400):
        load.add(10)
        for _ in range(10):
            load.done(0.1)
    admission = Admission(load, max_wait_s=1.5, max_held_bytes=1000)
    with ExitStack() as room:
        room.enter_context(admission.hold(1))
        with pytest.raises(BusyError, match="would wait 1.9 s"):  # ten before it, ten of its own
            room.enter_context(admission.hold(1))


@pytest.mark.parametrize("held", [(1000,), (60, 40)])
def test_bodies_are_let_in_while_there_is_room_and_one_always(held):
    admission = Admission(Workload(jobs=1), max_wait_s=10, max_held_bytes=100)
    with ExitStack() as room:
        for num_bytes in held:
            room.enter_context(admission.hold(num_bytes))
        with pytest.raises(BusyError, match="no room"):
            room.enter_context(admission.hold(1))


def test_a_flood_is_sent_away_with_a_time_and_the_rest_is_answered(start_server, png):
    server = start_server("--threads", "1", config=QUICK.model_copy(update={"deadline_s": 1.0}))
    slow = [png(200, side_px=2000)] * 2
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: server.infer(*slow), range(120)))
    statuses = {answer.status_code for answer in answers}
    assert {200, 429} <= statuses <= {200, 429, 504}
    for answer in answers:
        assert (answer.status_code == 429) == ("Retry-After" in answer.headers)
    assert server.infer(png(60)).status_code == 200
    code, printed = server.stop()
    assert code == 0
    assert "defect" not in printed


def test_views_whose_deadline_has_passed_are_not_read(store, png):
    engine = Engine(store.open(store.champion().digest), 1, "fp32")
    views = [AskedView(data=png(60), claimed_part="")]
    with pytest.raises(DeadlineError):
        asyncio.run(engine.read(views, 0.0, list))
    assert asyncio.run(engine.read(views, float("inf"), list))[0].outputs is not None


def test_what_waits_for_the_network_is_run_as_one_batch_with_the_same_answers(store, png):
    bundle = store.open(store.champion().digest)
    session = load_network(bundle, 1)
    batches, begin = [], threading.Event()

    class Watched:
        def run(self, outputs, inputs):
            begin.wait()
            batches.append(len(inputs["image"]))
            return session.run(outputs, inputs)

    size = bundle.info.image.size
    images = [
        normalise(read_square(png(level), size)[None], bundle.info.image)
        for level in range(10, 250, 6)
    ]
    batcher = Batcher(Watched())
    with ThreadPoolExecutor(len(images)) as pool:
        waiting = [pool.submit(batcher.run, image) for image in images]
        begin.set()
        found = [one.result() for one in waiting]
    assert sum(batches) == len(images)
    assert len(batches) < len(images)
    assert max(batches) <= 32
    for image, one in zip(images, found, strict=True):
        alone = run_network(session, image)
        for name in ("logits", "part_logits", "cams", "embeddings"):
            assert np.allclose(getattr(one, name), getattr(alone, name), atol=1e-6)


def test_a_batch_that_fails_is_told_to_everyone_in_it_and_the_next_is_run():
    class Failing:
        calls = 0

        def run(self, *_):
            self.calls += 1
            raise ValueError("broken")

    session = Failing()
    batcher = Batcher(session)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            batcher.run(np.zeros((1, 1, 8, 8), np.float32))
    assert session.calls == 2
