"""The alarm, with a clock and timers that the tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine.alarm import GRAINS_MAX, Alarm


class Timer:
    def __init__(self, at_s: float, call: Callable[[], None]) -> None:
        self.at_s = at_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """As much of an event loop as an alarm needs."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[Timer] = []
        self.rang: list[float] = []

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        assert delay_s >= 0
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def due(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def go_to(self, at_s: float) -> None:
        """Let time pass, timer by timer."""
        while due := [timer for timer in self.due() if timer.at_s <= at_s]:
            timer = min(due, key=lambda one: one.at_s)
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer.at_s)
            timer.call()
        self.now_s = at_s

    def alarm(self, horizon_s: float) -> Alarm:
        loop = cast("asyncio.AbstractEventLoop", self)
        return Alarm(horizon_s, lambda: self.rang.append(self.now_s), loop=loop, now_s=lambda: self.now_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_rings_at_each_instant_with_one_timer_whatever_their_order(clock: Clock) -> None:
    alarm = clock.alarm(1.25)
    for delay_s in (0.5, 0.2, 0.9, 0.2):
        alarm.set(delay_s)
    assert len(clock.due()) == 1
    clock.go_to(1000.19)
    assert clock.rang == []
    clock.go_to(1001.25)
    assert clock.rang == pytest.approx([1000.2, 1000.5, 1000.9], abs=0.02)
    assert clock.rang >= [1000.2, 1000.5, 1000.9]
    assert clock.due() == []


def test_what_is_beyond_the_horizon_is_left_to_the_poll(clock: Clock) -> None:
    alarm = clock.alarm(1.25)
    alarm.set(1.26)
    assert clock.due() == []


def test_after_the_loop_was_blocked_it_rings_once_for_all_that_came_meanwhile(clock: Clock) -> None:
    alarm = clock.alarm(1.25)
    alarm.set(0.1)
    alarm.set(0.2)
    alarm.set(1.0)
    clock.now_s = 1000.5
    clock.go_to(1000.5)
    assert clock.rang == [1000.5]
    clock.go_to(1001.1)
    assert len(clock.rang) == 2


def test_closed_it_rings_no_more(clock: Clock) -> None:
    alarm = clock.alarm(1.25)
    alarm.set(0.1)
    alarm.set(0.2)
    alarm.close()
    alarm.close()
    clock.go_to(1002.0)
    assert clock.rang == []


@given(st.floats(0.0125, 75.0), st.lists(st.floats(0, 1), min_size=1, max_size=400))
def test_laws(horizon_s: float, shares: list[float]) -> None:
    """It rings for each within a hundredth of the horizon, never early, and keeps a bounded number of instants."""
    clock = Clock()
    alarm = clock.alarm(horizon_s)
    for share in shares:
        alarm.set(share * horizon_s)
        assert len(clock.due()) == 1
    assert len(alarm._ticks) <= GRAINS_MAX + 2
    clock.go_to(1000.0 + 2 * horizon_s + 1)
    late_s = max(0.01, horizon_s / GRAINS_MAX) + 0.003
    for share in shares:
        at_s = 1000.0 + share * horizon_s
        assert any(at_s <= rang_s <= at_s + late_s for rang_s in clock.rang)
    assert clock.due() == []
