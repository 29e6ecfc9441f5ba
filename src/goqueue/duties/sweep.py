"""The sweep: jobs of workers that are gone come back to life, and those that were not started in time end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.model.admin import Duty

if TYPE_CHECKING:
    from goqueue.duties.leader import Leader
    from goqueue.settings import DutySettings
    from goqueue.store.port import AdminStore

PIECES_MAX: Final = 1_000
"""Pieces of one kind in one round, so that the other kinds get their turn."""

log = structlog.get_logger("goqueue.duties")


class Sweep:
    """One round: orphans, what has expired, worker rows; now and then, and first of all, also jobs without a worker."""

    def __init__(self, store: AdminStore, settings: DutySettings, leader: Leader) -> None:
        self._store = store
        self._settings = settings
        self._leader = leader
        self._full_at = 0.0

    async def __call__(self) -> None:
        """Do a round."""
        full = time.monotonic() >= self._full_at
        duties = [Duty.ORPHANS, *([Duty.ORPHANS_FULL] if full else []), Duty.EXPIRED, Duty.WORKERS]
        for duty in duties:
            await sweep(self._store, duty, self._settings.sweep_batch, self._leader)
            if not self._leader.is_leader:
                return  # deposed, or not sure any more
            if duty is Duty.ORPHANS_FULL:
                self._full_at = time.monotonic() + self._settings.full_sweep_s


async def sweep(store: AdminStore, duty: Duty, limit: int, leader: Leader) -> int:
    """Do one kind of upkeep piece by piece until nothing more is due; return how much that was.

    Ends at once when the store says that ``leader`` leads no more, and tells it so.
    """
    total = 0
    for _ in range(PIECES_MAX):
        term = leader.term
        if term is None:
            break
        swept = await store.sweep(duty, limit, term)
        if swept.deposed:
            leader.deposed(term)
            break
        total += swept.count
        if not swept.more:
            break
    if total:
        log.info("sweep", duty=duty.value, count=total)
    return total
