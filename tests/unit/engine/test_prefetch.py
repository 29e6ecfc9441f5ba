"""How many jobs wait in a worker: as many as it starts soon, and none that others could run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine.prefetch import AIM_S, JUDGE_S, Prefetch
from goqueue.settings import WorkerSettings

SLOTS, MOST = 10, 20
LOOK_S = 0.5


class Pace:
    """A worker with so many jobs a second."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.started = 0.0
        self.waiting = MOST
        self.handed_back: list[int] = []
        settings = WorkerSettings(concurrency=SLOTS, prefetch=MOST)
        self.prefetch = Prefetch(settings, now_s=lambda: self.now_s)

    def goes_on(self, seconds: float, *, a_second: float, running: int = SLOTS) -> None:
        """Claims keep as many waiting as are allowed."""
        for _ in range(int(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.started += a_second * LOOK_S
            self.waiting = max(self.waiting, self.prefetch.allowed) if running == SLOTS else 0
            back = self.prefetch.look(started=int(self.started), running=running, waiting=self.waiting)
            if back:
                self.handed_back.append(back)
                self.waiting -= back


@pytest.fixture
def pace() -> Pace:
    return Pace()


def test_short_jobs_are_claimed_ahead_as_far_as_the_settings_allow(pace: Pace) -> None:
    pace.goes_on(60.0, a_second=5_000.0)
    assert pace.prefetch.allowed == MOST
    assert pace.handed_back == []


def test_behind_long_jobs_nothing_waits_for_long_and_nothing_more_is_claimed(pace: Pace) -> None:
    pace.goes_on(JUDGE_S, a_second=0.0)
    assert pace.handed_back == []  # not before that says anything
    pace.goes_on(1.0, a_second=0.0)
    assert pace.handed_back == [MOST]
    assert pace.prefetch.allowed == 0
    pace.goes_on(3600.0, a_second=0.0)
    assert pace.handed_back == [MOST]  # not claimed and given back again and again


def test_a_slow_pace_lets_some_wait(pace: Pace) -> None:
    pace.goes_on(60.0, a_second=4.0)
    assert pace.prefetch.allowed == int(4.0 * AIM_S)
    assert pace.handed_back == [MOST - int(4.0 * AIM_S)]


def test_when_jobs_are_short_again_it_claims_ahead_again(pace: Pace) -> None:
    pace.goes_on(60.0, a_second=0.0)
    pace.goes_on(5.0, a_second=1_000.0)
    assert pace.prefetch.allowed == MOST


def test_with_free_slots_the_allowance_grows_back(pace: Pace) -> None:
    pace.goes_on(60.0, a_second=0.0)
    pace.goes_on(LOOK_S, a_second=0.0, running=0)
    assert pace.prefetch.allowed == 1
    pace.goes_on(6 * LOOK_S, a_second=0.0, running=SLOTS - 1)
    assert pace.prefetch.allowed == MOST


@given(st.lists(st.tuples(st.floats(0.01, 30.0), st.integers(0, 10**6), st.integers(0, SLOTS), st.integers(0, MOST))))
def test_laws(looks: list[tuple[float, int, int, int]]) -> None:
    """Never more than the settings say, never a negative number, never more given back than there is."""
    now_s, started = 0.0, 0
    prefetch = Prefetch(WorkerSettings(concurrency=SLOTS, prefetch=MOST), now_s=lambda: now_s)
    for passed_s, more, running, waiting in looks:
        now_s += passed_s
        started += more
        back = prefetch.look(started=started, running=running, waiting=waiting)
        assert 0 <= back <= waiting
        assert 0 <= prefetch.allowed <= MOST
