"""What a worker does twice a second: show that its loop turns, and look whether it should go on as it is."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.executors.memory import resident_bytes
from goqueue.engine.journal import ALIVE_S
from goqueue.engine.running import NO_SLOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.journal import Journal, NullJournal
    from goqueue.engine.prefetch import Prefetch
    from goqueue.engine.runner import Runner
    from goqueue.settings import WorkerSettings

MIB: Final = 1024 * 1024

log = structlog.get_logger("goqueue.engine")


class Pulse:
    """Beats on the loop every `ALIVE_S` until it is closed. ``recycle`` is told, once, why the process should be
    replaced."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        runner: Runner,
        prefetch: Prefetch,
        journal: Journal | NullJournal,
        recycle: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._prefetch = prefetch
        self._journal = journal
        self._recycle = recycle
        self._loop = asyncio.get_running_loop()
        self._handed_back = 0
        self._told = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._beat()

    def close(self) -> None:
        """End, and say so in the journal: from here on the loop need not be seen alive. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._journal.close()

    def _beat(self) -> None:
        self._timer = self._loop.call_later(ALIVE_S, self._beat)
        self._journal.alive(busy_until(self._runner, self._loop.time()))
        if not self._runner.stopping:
            self._fit_prefetch()
            self._look_at_age()

    @property
    def _started(self) -> int:
        return self._runner.finished + len(self._runner.running) - self._handed_back

    def _fit_prefetch(self) -> None:
        runner = self._runner
        queued = runner.hand_back_queued()
        if queued:
            self._handed_back += queued
            log.info(
                "hand_back", jobs=queued, reason="they waited for a thread or process, and others may have free ones"
            )
        surplus = self._prefetch.look(started=self._started, running=runner.slots_taken, waiting=runner.slots_wanted)
        if surplus > 0:
            handed_back = runner.hand_back_last(surplus)
            self._handed_back += handed_back
            log.info("hand_back", jobs=handed_back, reason="long jobs have all slots, and others may have free ones")

    def _look_at_age(self) -> None:
        reason = "" if self._told else self._too_old()
        if reason:
            self._told = True
            self._recycle(reason)

    def _too_old(self) -> str:
        jobs_max, bytes_max = self._settings.recycle_jobs, self._settings.recycle_memory_bytes
        if jobs_max and self._started >= jobs_max:
            return f"it has started {self._started} jobs"
        if bytes_max:
            resident = resident_bytes()
            if resident >= bytes_max:
                return f"it occupies {resident // MIB} MiB"
        return ""


def busy_until(runner: Runner, loop_time: float) -> float:
    """Return until when (monotonic) handlers in this process may hold the loop or the GIL, as far as they may at all.

    Infinity while one without a timeout runs. Loops count from where they like: ``loop_time`` is theirs.
    """
    longest_s = -math.inf
    for run in runner.running.values():
        if run.slot == NO_SLOT or run.child is not None:
            continue  # not begun, or in a process of its own
        if run.timer is None:
            return math.inf
        longest_s = max(longest_s, run.timer.when() - loop_time)
    return 0.0 if longest_s == -math.inf else time.monotonic() + longest_s
