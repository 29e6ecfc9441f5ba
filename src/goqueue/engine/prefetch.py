"""How many jobs a worker claims beyond those that it runs: about as many as it will start soon."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.settings import WorkerSettings

AIM_S: Final = 1.5
"""Jobs that wait here should start within this time; then the trips to the store never hold a slot up."""
JUDGE_S: Final = 1.5
"""For how long all slots must have been taken before the pace of starts says anything."""
WINDOW_S: Final = 3.0
"""The pace is that of at most this long."""


class Prefetch:
    """Learns from the pace at which jobs start. ``allowed`` is how many may wait now, at most ``settings.prefetch``.

    Short jobs start by the thousand, and as many wait as the settings allow. Where all slots are taken by long jobs,
    what waits here could run elsewhere: it is given back. While slots are free there is nothing to learn, and the
    allowance grows back.
    """

    def __init__(self, settings: WorkerSettings, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.allowed = self._max = settings.prefetch_jobs
        self._slots = settings.concurrency
        self._now_s = now_s
        self._full: deque[tuple[float, int]] = deque()
        """Looks since all slots have been taken: when, and how many jobs had been started."""

    def look(self, *, started: int, running: int, waiting: int) -> int:
        """Look, a few times a second, and return how many of those that wait should be given back.

        ``started`` counts all starts so far.
        """
        now = self._now_s()
        if running < self._slots:
            self._full.clear()
            self.allowed = min(self._max, max(1, self.allowed * 2))
            return 0
        self._full.append((now, started))
        while len(self._full) > 2 and now - self._full[1][0] >= WINDOW_S:
            self._full.popleft()
        since, started_then = self._full[0]
        if now - since < JUDGE_S:
            return 0
        soon = int((started - started_then) / (now - since) * AIM_S)
        self.allowed = min(self._max, soon)
        # Twice as many are let be: the pace changes, and each one that is given back costs a trip.
        return waiting - soon if waiting > 2 * soon else 0
