"""When each job was sent and when its handler began, in memory that all processes of a run share.

So a figure needs no look into the store, and both sides are timed alike. The clock is CLOCK_MONOTONIC, one for all
processes of a machine. Standard library only: the peers import it in their own environment.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "BENCH_STAMPS"
_BYTES = 8


class Stamps:
    """``sent[i]`` and ``started[i]``: nanoseconds, 0 while it has not happened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._all = memoryview(self._map).cast("q")
        self.slots = len(self._all) // 2
        self.sent = self._all[: self.slots]
        self.started = self._all[self.slots :]

    def waiting(self, first: int, end: int) -> int:
        """How many of the jobs from ``first`` to before ``end`` have not begun."""
        return self.started[first:end].tolist().count(0)

    def begun(self) -> list[int]:
        """The instants at which handlers began, in order."""
        return sorted(instant for instant in self.started.tolist() if instant)

    def first_unsent(self, first: int) -> int:
        """The number of the first job from ``first`` on that has not been sent; they are sent in order."""
        low, high = first, self.slots
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.sent[middle] else (low, middle)
        return low

    def pairs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """When each of these jobs was sent, and when it began."""
        return zip(self.sent[first:end].tolist(), self.started[first:end].tolist(), strict=True)

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self.sent, self.started, self._all):
            view.release()
        self._map.close()


def steady_per_s(begun: list[int]) -> float:
    """The rate of what began, between the first and the last tenth."""
    begun = sorted(begun)
    low, high = len(begun) // 10, len(begun) - len(begun) // 10 - 1
    return (high - low) / max((begun[high] - begun[low]) / 1e9, 1e-9)


@contextmanager
def made(slots: int) -> Iterator[Stamps]:
    """Stamps of a run of its own, thrown away afterwards."""
    memory = Path("/dev/shm")  # noqa: S108  Linux's memory file system; mkstemp makes a name of our own
    descriptor, name = tempfile.mkstemp(prefix="goqueue-bench-", dir=memory if memory.is_dir() else None)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.truncate(2 * _BYTES * slots)
        stamps = Stamps(Path(name))
        try:
            yield stamps
        finally:
            stamps.close()
    finally:
        Path(name).unlink()


def attached() -> Stamps:
    """The stamps that the bench made, in a process that it started."""
    return Stamps(Path(os.environ[VARIABLE]))


_attached: Stamps | None = None


def began(i: int) -> None:
    """Note that the handler of job ``i`` begins: the first thing that it does."""
    global _attached  # one map for a process
    if _attached is None:
        _attached = attached()
    _attached.started[i] = time.monotonic_ns()
