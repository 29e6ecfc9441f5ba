"""Tells a worker that is busy from one that is stuck, by what its journal page says."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.journal import Page
    from goqueue.settings import WorkerSettings

FRESH_S: Final = 2.0
"""A loop that has turned this recently is alive."""
SLACK_S: Final = 1.0
"""On top of the timeouts of the handlers: their slots' turn, their timers, a busy machine."""
WATCH_S: Final = 0.25
"""Between two looks at a page."""


class Watch:
    """Looks at one worker's page. `stuck_s` is for how long it has shown no sign of life without an excuse.

    An excuse is a handler within its timeout, and what it has to end after that: it may hold the loop or the GIL for
    so long. A handler without a timeout has one for ever. Only time in which we looked counts: when this process, too,
    did not run (a stopped group, a suspended machine), the worker had no chance to show anything.
    """

    def __init__(self, page: Page, settings: WorkerSettings, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.stuck_s = 0.0
        self._page = page
        self._excuse_s = settings.cancel_grace_s + SLACK_S
        self._max_s = settings.stuck_s
        self._now_s = now_s
        self._looked_at = now_s()

    def look(self) -> bool:
        """Look; tell whether it has been stuck for too long. To be called every `WATCH_S`."""
        now = self._now_s()
        passed_s, self._looked_at = now - self._looked_at, now
        alive_at, busy_until = self._page.alive_at, self._page.busy_until
        if alive_at == 0.0 or alive_at == math.inf or now <= max(alive_at + FRESH_S, busy_until + self._excuse_s):
            self.stuck_s = 0.0
            return False
        self.stuck_s += min(passed_s, 2 * WATCH_S)
        return self.stuck_s >= self._max_s
