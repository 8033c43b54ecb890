import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard import rates
from serving.guard.rates import Rates


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(rates, "time", clock)
    return clock


def test_a_client_may_use_its_minute_at_once_and_then_has_to_wait(clock):
    limit = Rates(30)
    assert [limit.take("a") for _ in range(30)] == [None] * 30
    assert limit.take("a") == pytest.approx(2)
    assert limit.take("b") is None


def test_who_waits_as_long_as_it_was_told_is_answered_and_who_waits_less_is_not(clock):
    limit = Rates(7)
    while (wait_s := limit.take("a")) is None:
        pass
    clock.now_s += wait_s - 0.001
    assert limit.take("a") == pytest.approx(0.001)
    clock.now_s += 0.001
    assert limit.take("a") is None
    assert limit.take("a") == pytest.approx(60 / 7)


def test_asking_too_often_does_not_make_the_wait_longer(clock):
    limit = Rates(1)
    limit.take("a")
    assert [limit.take("a") for _ in range(100)] == [60.0] * 100


@given(
    per_minute=st.integers(1, 5),
    gaps=st.lists(st.integers(0, 480), max_size=60),
)
def test_it_decides_as_a_bucket_of_tokens_does(per_minute, gaps):
    clock, limit = Clock(), Rates(per_minute)
    tokens = Fraction(per_minute)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "time", clock)
        for gap in gaps:
            clock.now_s += gap / 8  # which a float holds exactly
            tokens = min(tokens + Fraction(gap * per_minute, 480), Fraction(per_minute))
            taken = limit.take("a") is None
            assert taken == (tokens >= 1)
            tokens -= taken


def test_a_flood_of_clients_is_forgotten_down_to_the_limit(clock, monkeypatch):
    monkeypatch.setattr(rates, "MAX_CLIENTS", 50)
    limit = Rates(1)
    for number in range(1000):
        limit.take(f"client{number}")
        assert len(limit._full_at_s) <= 50
    assert limit.take("client999") is not None
    assert limit.take("client0") is None


def test_nobody_is_remembered_once_their_bucket_is_full_again(clock):
    limit = Rates(60)
    for number in range(1000):
        limit.take(f"client{number}")
    clock.now_s += 1.5
    for _ in range(600):
        limit.take("a")
        clock.now_s += 1
    assert list(limit._full_at_s) == ["a"]


def test_it_runs_on_the_clock_that_nobody_sets():
    limit = Rates(1200)
    for _ in range(1200):
        assert limit.take("a") is None
    wait_s = limit.take("a")
    assert wait_s is not None
    assert 0 < wait_s <= 0.05
    time.sleep(wait_s)
    assert limit.take("a") is None
