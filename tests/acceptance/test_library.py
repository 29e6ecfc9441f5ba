"""The library on a real PostgreSQL: a job is part of the caller's transaction, and its result comes back typed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest

from goqueue.model.errors import IdConflict, JobNotFound, ResultTimeout
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Answer, Complete, Settlement
from goqueue.tasks.app import GoQueue
from goqueue.tasks.prepare import new_id
from goqueue.wiring import AsyncClient, Client, open_store

app = GoQueue()


@app.task
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(app, database_url) as client:
        yield client


async def run_all(url: str) -> int:
    """Do what a worker does, once."""
    store = open_store(url)
    worker_id = new_id()
    function: Callable[..., int] = add.function
    try:
        await store.open()
        await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=60))
        claimed = await store.claim(Want(worker_id=worker_id, queues=("default",), total=500))
        outcomes = [
            Settlement(lease.ref, lease.fence, Complete(add.encode_result(function(**add.decode(lease.args)))))
            for lease in claimed.leases
        ]
        answers = await store.settle(outcomes)
    finally:
        await store.close()
    assert answers == [Answer.APPLIED] * len(outcomes)
    return len(outcomes)


def test_a_job_goes_in_and_its_result_comes_out(client: Client, database_url: str) -> None:
    job = client.enqueue(add.job(1, 2))
    with pytest.raises(ResultTimeout):
        job.result(timeout_s=0.05)
    assert asyncio.run(run_all(database_url)) == 1
    assert job.result(timeout_s=20) == 3
    assert client.get(job.id).result(timeout_s=20) == 3
    assert [found.id for found in client.iterate(kinds=["add"], states=["completed"])] == [job.id]


def test_a_job_exists_when_the_callers_transaction_commits(client: Client, database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        kept = client.enqueue(add.job(1), conn=conn)
        with pytest.raises(JobNotFound):
            kept.record()
        conn.commit()
        assert kept.record().kind == "add"
        lost = client.enqueue_many([add.job(n) for n in range(3)], conn=conn)
        conn.rollback()
    assert [job.id for job in client.iterate()] == [kept.id]
    with pytest.raises(JobNotFound):
        lost[0].record()


async def test_the_async_client_does_the_same(database_url: str) -> None:
    async with AsyncClient(app, database_url) as client:
        async with await psycopg.AsyncConnection.connect(database_url) as conn:
            lost = await client.enqueue(add.job(1), conn=conn)
            await conn.rollback()
            kept = await client.enqueue(add.job(5), conn=conn)
        jobs = [kept, *await client.enqueue_many(add.job(n) for n in range(20))]
        results = asyncio.gather(*(job.result(timeout_s=20) for job in jobs))
        assert await run_all(database_url) == 21
        assert await results == [6, *range(1, 21)]
        with pytest.raises(JobNotFound):
            await lost.record()


def test_one_id_is_one_job(client: Client, database_url: str) -> None:
    mine = add.job(1).options(id=new_id())
    assert client.enqueue(mine) == client.enqueue(mine)
    with pytest.raises(IdConflict):
        client.enqueue(add.job(2).options(id=mine.id))
    with psycopg.connect(database_url) as conn:
        assert client.enqueue(mine, conn=conn).id == mine.id
        with pytest.raises(IdConflict):
            client.enqueue(add.job(2).options(id=mine.id), conn=conn)
        fresh = add.job(3).options(id=new_id())
        assert client.enqueue(fresh, conn=conn) == client.enqueue(fresh, conn=conn)  # both in this transaction
    assert client.get(fresh.id).record().kind == "add"
