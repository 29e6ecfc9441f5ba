"""The async client takes jobs from async iterators, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from goqueue.model.job import NewJob
from goqueue.tasks.prepare import new_id
from tests.unit.client._async.faulty import World


async def rows(count: int, *, fail_at: int = -1) -> AsyncIterator[NewJob[object]]:
    """As they would come from a cursor of a database."""
    for n in range(count):
        if n == fail_at:
            raise OSError("the cursor has gone")
        yield NewJob(kind="n", args=b'{"n":%d}' % n)


async def test_an_async_iterator_is_taken_a_thousand_at_a_time() -> None:
    world = World()
    jobs = await world.client.enqueue_many(rows(2_001))
    assert [len(ids) for ids, _ in world.store.enqueues] == [1_000, 1_000, 1]
    assert [job.id for job in jobs] == world.stored()


async def test_an_async_iterator_that_fails_is_gone_on_with() -> None:
    world, run_id = World(), new_id()
    with pytest.raises(OSError, match="cursor"):
        await world.client.enqueue_many(rows(2_001, fail_at=1_500), run_id=run_id, handles=False)
    assert len(world.stored()) == 1_000
    done = await world.client.enqueue_many(rows(2_001), run_id=run_id, handles=False)
    assert (done.existing, done.stored) == (1_000, 1_001)
