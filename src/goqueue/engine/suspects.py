"""Jobs that were running when a process died. One of them killed it: each runs alone until that is known.

They take no slot of the others, and their queue is short, so that a crowd of them holds up nobody: what does not fit is
put off for a moment, with no attempt spent.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.model.outcome import Snooze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from goqueue.model.lease import Lease
    from goqueue.settings import WorkerSettings
    from goqueue.tasks.app import AnyTask

ROOM_SHARE: Final = 4
"""At most one in so many of the leases that a worker may hold waits here."""
AGAIN_S: Final = 2.0
"""A suspect that finds the queue full is put off for about this long."""

log = structlog.get_logger("goqueue.engine")


class Suspects:
    """The leases that wait for a process of their own. ``reaches`` tells whether such a process would find a task."""

    def __init__(
        self, settings: WorkerSettings, tasks: Mapping[str, AnyTask], reaches: Callable[[AnyTask], bool]
    ) -> None:
        self.waiting: deque[tuple[Lease, float]] = deque()
        self.running = 0
        self._slots = settings.suspects
        self._waiting_max = max(settings.suspects, (settings.concurrency + settings.prefetch_jobs) // ROOM_SHARE)
        self._tasks = tasks
        self._reaches = reaches
        self._warned = False

    def takes(self, lease: Lease) -> bool:
        """Tell whether this one can run alone; if not, it runs among the others."""
        task = self._tasks.get(lease.kind)
        if task is None:
            return False
        if self._reaches(task):
            return True
        if not self._warned:
            self._warned = True
            log.warning(
                "suspect",
                kind=lease.kind,
                job_id=lease.id,
                crashes=lease.crashes,
                reason="a process of its own could not import this task: it runs in the worker, and may end it again",
                do="define tasks at the top of an importable module, not in __main__ or in a function",
            )
        return False

    def add(self, lease: Lease, claimed_at: float) -> Snooze | None:
        """Let it wait for its turn, or return what becomes of it because too many wait."""
        if len(self.waiting) >= self._waiting_max:
            return Snooze(AGAIN_S * (0.5 + random.random()), "waits for a process of its own")  # noqa: S311  jitter
        self.waiting.append((lease, claimed_at))
        return None

    def next(self) -> tuple[Lease, float] | None:
        """Return the next one if there is a slot for it."""
        return self.waiting.popleft() if self.waiting and self.running < self._slots else None

    def drain(self) -> list[Lease]:
        """Return all that wait; none waits any more."""
        leases = [lease for lease, _ in self.waiting]
        self.waiting.clear()
        return leases

    def drop(self, lost: Iterable[tuple[str, int]]) -> None:
        """Forget those with these ids and fences."""
        gone = set(lost)
        self.waiting = deque(one for one in self.waiting if (one[0].id, one[0].fence) not in gone)
