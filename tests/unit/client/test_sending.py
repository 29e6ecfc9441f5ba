"""`enqueue_many` of the async client when its caller gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from goqueue.client._async.client import AsyncClient
from goqueue.model import limits
from goqueue.model.job import NewJob
from goqueue.model.query import Enqueued
from goqueue.store.memory.core import Memory
from goqueue.store.memory.store import MemoryStore

JOB: NewJob[object] = NewJob(kind="mail", args=b"{}")


class Stuck(MemoryStore):
    """Never answers an enqueue."""

    def __init__(self) -> None:
        super().__init__(Memory())
        self.began = asyncio.Event()
        self.cancelled = False

    async def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Wait for ever."""
        self.began.set()
        try:
            return await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("more", [0, 1, 5_000])
async def test_a_cancelled_enqueue_of_many_leaves_nothing_under_way(more: int) -> None:
    """Also when it is cancelled while the next jobs are being prepared."""
    store = Stuck()
    client = AsyncClient(connect=lambda: store)
    taken = 0

    def jobs() -> Iterator[NewJob[object]]:
        nonlocal taken
        for n in range(limits.BATCH_MAX + more):
            taken = n
            if n == limits.BATCH_MAX + 150:  # before the task has had a turn after its cancellation
                caller.cancel()
            yield JOB

    caller = asyncio.create_task(client.enqueue_many(jobs()))
    await store.began.wait()
    if more < 150:
        await asyncio.sleep(0)
        caller.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert store.cancelled
    assert taken < limits.BATCH_MAX + 300
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await client.close()
