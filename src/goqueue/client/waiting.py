"""When to ask again for a job that is awaited: pure, with the time as an argument.

Each job is asked for after 10 ms, 20 ms, 40 ms … up to every 500 ms (`ClientSettings`). Jobs that are due nearly at the
same time are asked for in one statement. Where tens of thousands are awaited, each is asked for less often, so that all
together are a bounded load.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from goqueue.model.job import JobRef
    from goqueue.settings import ClientSettings

ASKED_PER_S_MAX: Final = 20_000
"""Jobs that one client asks for in a second, about: 20 statements of 1,000 ids."""


@dataclass(slots=True)
class _Turn:
    at: float
    delay_s: float
    asked: int = 0


class PollSchedule:
    """Which jobs are due. Not thread-safe: its owner has a lock."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._turns: dict[JobRef, _Turn] = {}
        self._heap: list[tuple[float, JobRef]] = []

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, ref: JobRef, now: float) -> None:
        """Ask for a job soon; one that is asked for already starts again with short delays."""
        self._put(ref, _Turn(now + self._settings.wait_min_s, self._settings.wait_min_s))

    def remove(self, ref: JobRef) -> None:
        """Stop asking for a job."""
        self._turns.pop(ref, None)

    def next_in(self, now: float) -> float | None:
        """Return the seconds until a job is due; None if there is none."""
        while self._heap and not self._is_current(*self._heap[0]):
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def take(self, now: float, jobs_max: int) -> list[JobRef]:
        """Return jobs to ask for now, and plan the next time for each."""
        due: list[JobRef] = []
        # What is due within the shortest delay goes along: one statement instead of two.
        horizon = now + self._settings.wait_min_s
        while self._heap and self._heap[0][0] <= horizon and len(due) < jobs_max:
            at, ref = heapq.heappop(self._heap)
            if self._is_current(at, ref):
                due.append(ref)
                # Off the plan until the loop below, so that the loop cannot meet it twice.
                self._turns[ref].at = -1.0
        least_s = len(self._turns) / ASKED_PER_S_MAX
        for ref in due:
            turn = self._turns[ref]
            delay_s = min(turn.delay_s * 2, self._settings.wait_max_s)
            self._put(ref, _Turn(now + max(delay_s, least_s), delay_s, turn.asked + 1))
        return due

    def is_old(self, ref: JobRef) -> bool:
        """Tell whether a job has been asked for so often that it is worth a look whether it exists at all."""
        turn = self._turns.get(ref)
        return turn is not None and turn.asked % self._settings.exists_polls == 0

    def _put(self, ref: JobRef, turn: _Turn) -> None:
        self._turns[ref] = turn
        heapq.heappush(self._heap, (turn.at, ref))

    def _is_current(self, at: float, ref: JobRef) -> bool:
        turn = self._turns.get(ref)
        return turn is not None and turn.at == at
