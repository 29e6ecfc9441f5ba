"""The sweep: jobs of workers that are gone come back to life."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.model.admin import Duty

if TYPE_CHECKING:
    from goqueue.settings import DutySettings
    from goqueue.store.port import AdminStore

PIECES_MAX: Final = 1_000
"""Pieces of one kind in one round, so that the other kinds get their turn."""

log = structlog.get_logger("goqueue.duties")


class Sweep:
    """One round of orphans and worker rows; now and then, and in its first round, also of rows that are missing."""

    def __init__(self, store: AdminStore, settings: DutySettings) -> None:
        self._store = store
        self._settings = settings
        self._full_at = 0.0

    async def __call__(self) -> None:
        """Do a round."""
        await sweep(self._store, Duty.ORPHANS, self._settings.sweep_batch)
        if time.monotonic() >= self._full_at:
            await sweep(self._store, Duty.ORPHANS_FULL, self._settings.sweep_batch)
            self._full_at = time.monotonic() + self._settings.full_sweep_s
        await sweep(self._store, Duty.WORKERS, self._settings.sweep_batch)


async def sweep(store: AdminStore, duty: Duty, limit: int) -> int:
    """Do one kind of upkeep piece by piece until nothing more is due; return how much that was."""
    total = 0
    for _ in range(PIECES_MAX):
        swept = await store.sweep(duty, limit)
        total += swept.count
        if not swept.more:
            break
    if total:
        log.info("sweep", duty=duty.value, count=total)
    return total
