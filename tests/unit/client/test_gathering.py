"""Concurrent plain enqueues of one async client share statements; whatever else an enqueue is, it goes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from unittest.mock import AsyncMock

import pytest

from goqueue.client._async.client import AsyncClient
from goqueue.model.errors import ClientClosed, InvalidInput, NotSent, StoreUnavailable
from goqueue.model.job import NewJob, Unique
from goqueue.model.query import Filter, Query
from goqueue.settings import ClientSettings
from goqueue.tasks.prepare import new_id
from tests.support.faulty_store import FaultyStore, Gate


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
async def client(store: FaultyStore) -> AsyncIterator[AsyncClient]:
    settings = ClientSettings(gather_max=10, enqueue_tries=2, retry_base_s=0.0)
    async with AsyncClient(connect=lambda: store, settings=settings) as client:
        yield client


def job(kind: str = "k") -> NewJob[None]:
    return NewJob(kind=kind)


def sizes(store: FaultyStore) -> list[int]:
    return [len(batch) for batch in store.batches]


async def test_concurrent_enqueues_share_statements_of_a_bounded_size(client: AsyncClient, store: FaultyStore) -> None:
    async def take_a_moment(_: object) -> None:
        await asyncio.sleep(0.01)

    store.before_enqueue = take_a_moment
    jobs = await asyncio.gather(*(client.enqueue(job(str(i))) for i in range(32)))
    assert sizes(store)[0] == 1
    assert max(sizes(store)) == 10
    assert len(store.batches) <= 5
    kinds = [record.kind if record else None for record in await store.get("default", [job.id for job in jobs])]
    assert kinds == [str(i) for i in range(32)], "each caller has the handle of its own job"
    assert [job.id for batch in store.batches for job in batch] == sorted(job.id for job in jobs), "in their order"


async def test_one_after_the_other_each_goes_alone(client: AsyncClient, store: FaultyStore) -> None:
    for _ in range(3):
        await client.enqueue(job())
    assert sizes(store) == [1, 1, 1]


async def test_jobs_that_may_wait_for_others_go_by_themselves(client: AsyncClient, store: FaultyStore) -> None:
    gate = Gate()
    await client.enqueue(job("opens the store"))
    store.before_enqueue = gate.pass_through
    others: list[NewJob[Any]] = [NewJob(kind="keyed", unique=Unique(key="k")), NewJob(kind="own id", id=new_id())]
    sent = [asyncio.create_task(client.enqueue(job)) for job in others * 2]
    await gate.wait_for(4)
    gate.open()
    await asyncio.gather(*sent)
    assert sizes(store) == [1, 1, 1, 1, 1]


async def test_a_job_that_the_store_refuses_fails_by_itself(client: AsyncClient, store: FaultyStore) -> None:
    async def refuse(jobs: Sequence[NewJob[object]]) -> None:
        if any(job.kind == "bad" for job in jobs):
            raise InvalidInput("not this one")

    store.before_enqueue = refuse
    kinds = ["good", "good", "bad", "good"]
    answers = await asyncio.gather(*(client.enqueue(job(kind)) for kind in kinds), return_exceptions=True)
    assert [isinstance(answer, InvalidInput) for answer in answers] == [False, False, True, False]


async def test_a_lost_answer_is_asked_for_again_by_each(client: AsyncClient, store: FaultyStore) -> None:
    await client.enqueue(job("opens the store"))
    lost = 0

    async def lose() -> None:
        nonlocal lost
        if lost < 2:
            lost += 1
            raise StoreUnavailable("the connection broke after the commit")

    store.after_enqueue = lose
    jobs = await asyncio.gather(*(client.enqueue(job()) for _ in range(5)))
    assert lost == 2
    stored = await store.find(Query(filter=Filter(tenant="default", kinds=("k",))))
    assert sorted(record.id for record in stored.jobs) == sorted(job.id for job in jobs)


async def test_close_lets_what_is_under_way_be_stored(client: AsyncClient, store: FaultyStore) -> None:
    await client.enqueue(job("opens the store"))
    gate = Gate()
    store.before_enqueue = gate.pass_through
    sent = [asyncio.create_task(client.enqueue(job())) for _ in range(5)]
    await gate.wait_for(2)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    with pytest.raises(ClientClosed):
        await client.enqueue(job("late"))
    gate.open()
    await closing
    assert len(await asyncio.gather(*sent)) == 5


async def test_beyond_the_bound_it_is_refused_and_never_goes_past_the_others(store: FaultyStore) -> None:
    settings = ClientSettings(gather_max=5, enqueues_waiting_max=5, enqueue_tries=2, retry_base_s=0.0)
    async with AsyncClient(connect=lambda: store, settings=settings) as client:
        await client.enqueue(job("opens the store"))
        gate = Gate()
        store.before_enqueue = gate.pass_through
        sent = [asyncio.create_task(client.enqueue(job())) for _ in range(100)]
        await gate.wait_for(2)
        async with asyncio.timeout(5):
            while sum(task.done() for task in sent) < 89:  # noqa: ASYNC110  what is there to wait for otherwise
                await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*sent, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(answer, NotSent) and "try again later" in str(answer) for answer in refused)
        assert len(refused) == 89
        assert sizes(store) == [1, 1, 5, 5]


async def test_a_close_that_is_cut_off_closes_the_store(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.Event()
    monkeypatch.setattr(store, "close", closes := AsyncMock(side_effect=lambda: closed.set()))
    client = AsyncClient(connect=lambda: store)
    await client.enqueue(job("opens the store"))
    gate = Gate()
    store.before_enqueue = gate.pass_through
    sent = asyncio.create_task(client.enqueue(job()))
    await gate.wait_for(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.close()
    assert closed.is_set()
    closes.assert_awaited_once()
    gate.open()
    await sent
