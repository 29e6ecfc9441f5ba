"""Waits of the bench: each has a deadline, and ends at once when a process has died."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from bench import processes
from bench.processes import Failed, Group
from bench.stamps import Stamps

AGAIN_MAX = 2


class Run(Protocol):
    """The outcome of one run."""

    @property
    def busy_before(self) -> float:
        """The share of the machine that was busy when the run began."""


R = TypeVar("R", bound=Run)


def on_quiet_machine(run: Callable[[], R], *, quiet_s: float) -> R:
    """Run; and, if the machine had other work before or just after it, run again, at most `AGAIN_MAX` times.

    A machine that is never quiet gets its figures all the same, and they say so. ``quiet_s`` 0 means: do not care.
    """
    outcome = run()
    for _ in range(AGAIN_MAX if quiet_s > 0 else 0):
        if outcome.busy_before < processes.QUIET_SHARE and processes.wait_until_quiet(0) < processes.QUIET_SHARE:
            break
        outcome = run()
    return outcome


def check(groups: Sequence[Group], deadline: float, text: str) -> None:
    """Raise `Failed` if one of the groups has ended, or, with ``text``, after the deadline."""
    for group in groups:
        group.require_alive()
    if time.monotonic() > deadline:
        raise Failed(text)


def until_begun(made: Stamps, jobs: int, groups: Sequence[Group], name: str, timeout_s: float) -> None:
    """Wait until the handler of every job has begun."""
    deadline = time.monotonic() + timeout_s
    while left := made.waiting(0, jobs):
        check(groups, deadline, f"{name}: {left} of {jobs} jobs have not begun")
        time.sleep(0.01)
