"""Waits of the bench: each has a deadline, and ends at once when a process has died."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.processes import Failed, Group
from bench.stamps import Stamps


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
