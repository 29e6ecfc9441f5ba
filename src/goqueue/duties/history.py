"""The history's upkeep: partitions made ahead and dropped when past, expired records and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.duties.sweep import sweep
from goqueue.model.admin import Duty

if TYPE_CHECKING:
    from goqueue.settings import DutySettings
    from goqueue.store.port import AdminStore


class History:
    """One round of it."""

    def __init__(self, store: AdminStore, settings: DutySettings) -> None:
        self._store = store
        self._settings = settings

    async def __call__(self) -> None:
        """Do a round."""
        await sweep(self._store, Duty.HISTORY, self._settings.sweep_batch)
