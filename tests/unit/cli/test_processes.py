"""What all long-running commands share."""

from __future__ import annotations

import pytest

from goqueue.cli.processes import Stopping, open_when_there
from goqueue.model.errors import StoreUnavailable
from goqueue.store.memory.core import Memory
from goqueue.store.memory.store import MemoryStore


class Opening(MemoryStore):
    """Calls ``meanwhile`` at each attempt to open it; the first ``refusals`` attempts fail."""

    def __init__(self, stopping: Stopping | None = None, *, refusals: int = 0) -> None:
        super().__init__(Memory())
        self.attempts = 0
        self._stopping = stopping
        self._refusals = refusals

    async def open(self) -> None:
        """Open, and be told to stop meanwhile."""
        self.attempts += 1
        if self._stopping is not None:
            self._stopping.stop()
        if self.attempts <= self._refusals:
            raise StoreUnavailable("away")
        await super().open()


@pytest.mark.parametrize("refusals", [0, 1])
async def test_a_stop_that_comes_while_the_store_is_being_opened_is_kept(refusals: int) -> None:
    stopping = Stopping()
    store = Opening(stopping, refusals=refusals)
    assert not await open_when_there(store, stopping)
    assert store.attempts == 1
    await store.close()


async def test_a_store_that_is_away_is_opened_when_it_is_back() -> None:
    store = Opening(refusals=1)
    assert await open_when_there(store, Stopping())
    assert store.attempts == 2
    await store.close()
