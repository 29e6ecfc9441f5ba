"""Faults that a test asks for: the next attempt loses its lease, or its process dies."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goqueue.tasks.app import AnyTask


class Fault(Enum):
    """What happens to an attempt."""

    LOSE_LEASE = auto()
    """It goes on to its end, but the job is another's by then: nothing that it writes counts."""
    CRASH = auto()
    """Its process dies when the handler has done its work, and before anybody hears of it."""
    CRASH_BEFORE = auto()
    """Its process dies before the handler has begun."""


class Faults:
    """Faults that wait for their attempts."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Fault, str | None]] = deque()

    def add(self, fault: Fault, task: AnyTask | str | None, times: int) -> None:
        """Let the next ``times`` attempts (of this task, or of any) have this fault."""
        if times < 1:
            raise ValueError(f"times must be at least 1, is {times}")
        self._waiting.extend([(fault, kind_of(task))] * times)

    def take(self, kind: str) -> Fault | None:
        """Return the fault of an attempt that begins, if there is one for it."""
        for one in self._waiting:
            if one[1] in (None, kind):
                self._waiting.remove(one)
                return one[0]
        return None

    def clear(self) -> None:
        """Forget those that wait."""
        self._waiting.clear()


def kind_of(task: AnyTask | str | None) -> str | None:
    """Return the kind that is meant; None for any."""
    return task if task is None or isinstance(task, str) else task.kind
