"""The contract, held against the memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from goqueue.store.conformance import SETTINGS, Harness, StoreCases
from goqueue.store.memory import Clock, MemoryStore


class MemoryHarness(Harness):
    """A memory store on a clock that stands still."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._memory = store.memory

    async def advance(self, seconds: float) -> None:
        self._memory.time_travel(seconds)

    async def forget_worker(self, worker_id: str) -> None:
        for place in [place for place in self._memory.workers if place[1] == worker_id]:
            del self._memory.workers[place]


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    store = MemoryStore(settings=SETTINGS, clock=Clock(frozen=True))
    await store.open()
    yield MemoryHarness(store)
    await store.close()


class TestMemory(StoreCases):
    """All cases."""
