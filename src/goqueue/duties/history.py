"""The history's upkeep: partitions made ahead and dropped when past, expired records and keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.duties.leader import REST_S
from goqueue.duties.sweep import sweep
from goqueue.model.admin import Duty
from goqueue.model.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.duties.leader import Leader
    from goqueue.settings import DutySettings
    from goqueue.store.port import AdminStore

REMIND_S: Final = 86_400.0
"""A process that may not do it says so the first time, and then this often."""
WHAT_TO_DO: Final = "run `goqueue server` or `goqueue db migrate` as the owner of the schema, at least weekly"

log = structlog.get_logger("goqueue.duties")


class History:
    """One round of it. Partitions are made by the owner of the schema: another process leaves it to the next one."""

    def __init__(
        self, store: AdminStore, settings: DutySettings, leader: Leader, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._settings = settings
        self._leader = leader
        self._now_s = now_s
        self._told_at_s = float("-inf")

    async def __call__(self) -> None:
        """Do a round."""
        try:
            await sweep(self._store, Duty.HISTORY, self._settings.sweep_batch, self._leader)
        except PermissionDenied as error:
            await self._leader.rest()
            if self._now_s() - self._told_at_s >= REMIND_S:
                self._told_at_s = self._now_s()
                log.warning("resign", duty=self._leader.name, error=str(error), do=WHAT_TO_DO, again_in_s=REST_S)
