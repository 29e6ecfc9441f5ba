"""Waits of the bench: each has a deadline, and ends at once when a process has died."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from bench import processes
from bench.processes import Failed, Group
from bench.stamps import Stamps

AGAIN_MAX = 2
PATIENCE_S = 300.0


class Run(Protocol):
    """The outcome of one run."""

    @property
    def busy_before(self) -> float:
        """The share of the machine that was busy when the run began."""


R = TypeVar("R", bound=Run)


class Patience:
    """How long one call of the bench waits for a machine that has other work: each time, and in all.

    A machine that is never quiet gets its figures all the same, and they say so. ``each_s`` 0 means: do not care.
    """

    def __init__(self, each_s: float, total_s: float = PATIENCE_S) -> None:
        self._each_s = each_s
        self._left_s = total_s

    def until_quiet(self) -> float:
        """Wait until the machine has nothing else to do; return the share of it that was busy when the wait ended."""
        began = time.monotonic()
        share = processes.wait_until_quiet(max(0.0, min(self._each_s, self._left_s)))
        self._left_s -= time.monotonic() - began
        return share

    def run(self, run: Callable[[], R]) -> R:
        """Run; and, if the machine had other work before or just after it, run again, at most `AGAIN_MAX` times."""
        outcome = run()
        for _ in range(AGAIN_MAX):
            if self._each_s <= 0 or self._left_s <= 0:
                break
            if max(outcome.busy_before, processes.wait_until_quiet(0)) < processes.QUIET_SHARE:
                break
            began = time.monotonic()
            outcome = run()
            self._left_s -= time.monotonic() - began
        return outcome


def check(groups: Sequence[Group], deadline: float, text: str) -> None:
    """Raise `Failed` if one of the groups has ended, or, with ``text``, after the deadline."""
    for group in groups:
        group.require_alive()
    if time.monotonic() > deadline:
        raise Failed(text)


def hold(groups: Sequence[Group], until_s: float) -> None:
    """Let the groups run until that instant of the monotonic clock. Raise `Failed` if one of them ends before."""
    while (left := until_s - time.monotonic()) > 0:
        check(groups, until_s + 1, "the clock stood still")
        time.sleep(min(1.0, left))


def until_begun(made: Stamps, jobs: range, groups: Sequence[Group], name: str, timeout_s: float) -> None:
    """Wait until the handler of every job has begun."""
    deadline = time.monotonic() + timeout_s
    while left := made.waiting(jobs.start, jobs.stop):
        check(groups, deadline, f"{name}: {left} of {len(jobs)} jobs have not begun")
        time.sleep(0.01)
