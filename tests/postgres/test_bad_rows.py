"""A row that cannot be written holds up none of the others in a change of many jobs. Settles, sweeps: elsewhere."""

from __future__ import annotations

import psycopg
import pytest

from goqueue.model.errors import InvalidInput
from goqueue.model.job import ErrorInfo
from goqueue.model.outcome import Dead, Settlement
from goqueue.model.query import CancelJobs, Change, ChangeStatus, RetryJobs, Selection
from goqueue.settings import Retention
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres._sync.jobs import PostgresJobs
from tests.postgres.test_concurrency import MakeStore, claim, job, make_store, register

__all__ = ["make_store"]  # a fixture

CHANGED, BUSY = ChangeStatus.CHANGED, ChangeStatus.BUSY


def one(id: str) -> Selection:
    return Selection("default", (id,))


async def statuses(store: PostgresStore, selection: Selection, change: Change) -> list[ChangeStatus]:
    answers = await store.change(selection, change)
    assert [answer.id for answer in answers] == list(selection.ids)
    return [answer.status for answer in answers]


async def refuse(url: str, table: str, id: str) -> None:
    """Let a table refuse this job."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(
            f"ALTER TABLE goqueue.{table} ADD CONSTRAINT bad CHECK (id <> '{id}') NOT VALID".encode()
        )


async def test_a_cancel_goes_on_without_a_bad_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    jobs = [job() for _ in range(3)]
    await store.enqueue(jobs)
    selection = Selection("default", tuple(j.id for j in jobs))
    await refuse(database_url, "job_history", jobs[1].id)
    assert await statuses(store, selection, CancelJobs()) == [CHANGED, BUSY, CHANGED]
    with pytest.raises(InvalidInput):
        await store.change(one(jobs[1].id), CancelJobs())


async def test_a_retry_goes_on_without_a_bad_job_and_each_keeps_its_place(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store()
    await store.enqueue([job() for _ in range(3)])
    leases = await claim(store, await register(store))
    await store.settle([Settlement(lease.ref, lease.fence, Dead(ErrorInfo("Error", "no"))) for lease in leases])
    selection = Selection("default", tuple(lease.id for lease in leases))
    await refuse(database_url, "job", leases[1].id)
    assert await statuses(store, selection, RetryJobs(delay_s=50.0, every_s=100.0)) == [CHANGED, BUSY, CHANGED]
    first, _, third = await store.get("default", selection.ids)
    assert first is not None
    assert third is not None
    assert 190 < (third.run_at - first.run_at).total_seconds() < 210


async def test_a_change_goes_on_without_the_partition_of_one_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(queue_retention={"far": Retention(cancelled_s=400 * 86_400.0)}, lock_timeout_s=0.1)
    jobs = [job(), job(queue="far"), job()]
    await store.enqueue(jobs)
    selection = Selection("default", tuple(j.id for j in jobs))
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("LOCK TABLE goqueue.job_history IN SHARE UPDATE EXCLUSIVE MODE")
        assert await statuses(store, selection, CancelJobs()) == [CHANGED, BUSY, CHANGED]
    assert await statuses(store, one(jobs[1].id), CancelJobs()) == [CHANGED]


def test_a_client_goes_on_too_and_raises_when_none_could_be_written(database_url: str) -> None:
    client = PostgresJobs(database_url)
    client.open()
    try:
        jobs = [job() for _ in range(3)]
        client.enqueue(jobs)
        with psycopg.connect(database_url) as connection:
            connection.execute(
                f"ALTER TABLE goqueue.job_history ADD CONSTRAINT bad CHECK (id <> '{jobs[0].id}') NOT VALID".encode()
            )
        selection = Selection("default", tuple(j.id for j in jobs))
        assert [a.status for a in client.change(selection, CancelJobs())] == [BUSY, CHANGED, CHANGED]
        with psycopg.connect(database_url) as connection:
            connection.execute("ALTER TABLE goqueue.job_history ADD CONSTRAINT worse CHECK (state <> 4) NOT VALID")
        more = [job() for _ in range(2)]
        client.enqueue(more)
        with pytest.raises(InvalidInput):
            client.change(Selection("default", tuple(j.id for j in more)), CancelJobs())
    finally:
        client.close()
