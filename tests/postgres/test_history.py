"""A history partition that is missing and cannot be made: jobs wait for it, none is lost, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from goqueue.model.admin import Duty
from goqueue.model.errors import KeyBusy, StoreUnavailable
from goqueue.model.job import ErrorInfo
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Answer, Dead, Retry, Settlement
from goqueue.model.query import CancelJobs, ChangeStatus, Filter, Query, Selection
from goqueue.model.state import JobState
from goqueue.settings import Retention, StoreSettings
from goqueue.store.postgres import PostgresStore, partitions
from tests.postgres.test_concurrency import MakeStore, claim, done, job, make_store, register

__all__ = ["make_store"]  # a fixture

FAILED = ErrorInfo("ValueError", "no")
DAY_S = 86_400.0
DEAD_S = 400 * DAY_S
"""Of dead jobs here: nobody else needs the partitions of those days."""


def partition_names(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'goqueue.job_history'::regclass"
        ).fetchall()
    return [name.rpartition(".")[2] for (name,) in rows]


@asynccontextmanager
async def no_new_partitions(url: str) -> AsyncIterator[None]:
    """Hold a lock as a long ANALYZE of the history does: rows can be written, partitions neither made nor dropped."""
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("LOCK TABLE goqueue.job_history IN SHARE UPDATE EXCLUSIVE MODE")
        yield


async def states(store: PostgresStore) -> dict[str, JobState]:
    page = await store.find(Query(filter=Filter(), page_size=500))
    return {record.id: record.state for record in page.jobs}


async def test_a_dead_job_waits_for_its_partition_and_holds_up_no_other(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store(dead_retention_s=DEAD_S, lock_timeout_s=0.1)
    worker_id = await register(store)
    jobs = [job() for _ in range(4)]
    await store.enqueue(jobs)
    leases = await claim(store, worker_id)
    outcomes = [done(lease) for lease in leases[:3]]
    outcomes.insert(1, Settlement(leases[3].ref, leases[3].fence, Dead(FAILED)))
    async with no_new_partitions(database_url):
        answers = await store.settle(outcomes)
        assert answers == [Answer.APPLIED, Answer.BUSY, Answer.APPLIED, Answer.APPLIED]
        with pytest.raises(StoreUnavailable, match="partition"):
            await store.settle([outcomes[1]])
        # A claim that brings it along goes on claiming.
        await store.enqueue([job()])
        want = Want(worker_id=worker_id, queues=("default",), total=5)
        with pytest.raises(StoreUnavailable, match="partition"):
            await store.claim(want, [outcomes[1]])
        assert (await states(store))[leases[3].id] is JobState.RUNNING
    assert await store.settle([outcomes[1]]) == [Answer.APPLIED]
    assert (await states(store))[leases[3].id] is JobState.DEAD


async def test_a_sweep_goes_on_without_the_partition_of_one_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(dead_retention_s=DEAD_S, lock_timeout_s=0.1, crash_delay_s=0.0)
    worker_id = await register(store)
    jobs = [job(max_crashes=1 if n == 1 else 3) for n in range(4)]
    await store.enqueue(jobs)
    await claim(store, worker_id)
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    async with no_new_partitions(database_url):
        assert (await store.sweep(Duty.ORPHANS, 100)).count == 3
        assert (await states(store))[jobs[1].id] is JobState.RUNNING
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 1
    assert (await states(store))[jobs[1].id] is JobState.DEAD


async def test_expired_and_cancelled_jobs_wait_for_their_partitions(make_store: MakeStore, database_url: str) -> None:
    far = {"far": Retention(cancelled_s=DEAD_S, dead_s=DEAD_S + DAY_S)}
    store = await make_store(queue_retention=far, lock_timeout_s=0.1, dead_retention_s=None)
    late, other, unwanted = (
        job(queue="far", schedule_to_start_s=0.001),
        job(schedule_to_start_s=0.001),
        job(queue="far"),
    )
    await store.enqueue([late, other, unwanted])
    store.time_travel(1)
    selection = Selection("default", (unwanted.id,))
    async with no_new_partitions(database_url):
        assert (await store.sweep(Duty.EXPIRED, 100)).count == 1
        with pytest.raises(StoreUnavailable, match="partition"):
            await store.change(selection, CancelJobs())
        seen = await states(store)
        assert (seen[late.id], seen[other.id], seen[unwanted.id]) == (JobState.READY, JobState.DEAD, JobState.READY)
    assert (await store.sweep(Duty.EXPIRED, 100)).count == 1
    assert (await store.change(selection, CancelJobs()))[0].status is ChangeStatus.CHANGED
    assert (await states(store))[unwanted.id] is JobState.CANCELLED


async def test_every_way_out_makes_the_partitions_that_are_missing(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(dead_retention_s=DEAD_S, crash_delay_s=0.0)

    def drop() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            for name in partition_names(database_url):
                if not name.endswith("forever"):
                    connection.execute(f"DROP TABLE goqueue.{name}".encode())

    worker_id = await register(store)
    late, unwanted, crashed, ended = job(schedule_to_start_s=0.001), job(), job(max_crashes=1), job()
    drop()
    await store.enqueue([late])
    store.time_travel(1)
    assert (await store.sweep(Duty.EXPIRED, 10)).count == 1
    drop()
    await store.enqueue([unwanted])
    await store.change(Selection("default", (unwanted.id,)), CancelJobs())
    await store.enqueue([crashed, ended])
    leases = {lease.id: lease for lease in await claim(store, worker_id)}
    drop()
    assert await store.settle([done(leases[ended.id])]) == [Answer.APPLIED]
    drop()
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    assert (await store.sweep(Duty.ORPHANS, 10)).count == 1
    assert await states(store) == {crashed.id: JobState.DEAD}  # the others went with their partitions
    drop()
    assert (await store.sweep(Duty.HISTORY, 10)).count > 0
    assert len(partition_names(database_url)) > 1


async def test_a_worker_without_the_right_to_make_partitions_loses_nothing(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store(dead_retention_s=DEAD_S)
    worker_id = await register(store)
    await store.enqueue([job(), job()])
    first, second = await claim(store, worker_id)

    async def refused(*_: object) -> int:
        raise psycopg.errors.InsufficientPrivilege("permission denied for schema goqueue")

    monkeypatch.setattr(partitions, "_make", refused)
    dead = Settlement(first.ref, first.fence, Dead(FAILED))
    again = Settlement(second.ref, second.fence, Retry(0.0, FAILED))
    assert await store.settle([dead, again]) == [Answer.BUSY, Answer.APPLIED]
    monkeypatch.undo()
    assert await store.settle([dead]) == [Answer.APPLIED]


async def test_partitions_are_made_for_every_retention(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(
        completed_retention_s=0.0,
        dead_retention_s=None,
        queue_retention={
            "a": Retention(completed_s=100 * DAY_S, cancelled_s=0.0),
            "b": Retention(dead_s=200 * DAY_S),
        },
    )
    await store.sweep(Duty.HISTORY, 10)
    now = await partitions._clock(connection := await store._database.connect())
    await connection.close()
    days = {(day - now.date()).days for day in partitions.needed(store._settings, now)}
    expected = {d + 1 + ahead for d in (7, 100, 200) for ahead in range(partitions.AHEAD_DAYS + 1)}
    assert days in (expected, {d + 1 for d in expected})  # a day is never exactly 86,400 s from an instant
    there = set(partition_names(database_url))
    assert all(f"job_history_{day:%Y%m%d}" in there for day in partitions.needed(store._settings, now))
    assert partitions.needed(StoreSettings(completed_retention_s=0, cancelled_retention_s=0), now) == []


async def test_upkeep_of_partitions_stops_with_its_term(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(dead_retention_s=DEAD_S)
    before = partition_names(database_url)
    term = await store.elect("upkeep", "me", 60)
    await store.elect("upkeep", "me", 0)
    assert (await store.elect("upkeep", "you", 60)) is not None
    assert (await store.sweep(Duty.HISTORY, 10, term)).deposed
    connection = await store._database.connect()
    with pytest.raises(partitions.Deposed):
        await partitions.ensure(connection, store._settings, None, term)
    with pytest.raises(partitions.Deposed):
        await partitions.drop_past(connection, store._settings, await _years_later(connection), term)
    await connection.close()
    assert partition_names(database_url) == before


async def _years_later(connection: psycopg.AsyncConnection[Any]) -> datetime:
    return await partitions._clock(connection) + timedelta(days=1000)


async def test_a_locked_history_delays_a_settle_no_longer_than_its_deadline(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store(statement_timeout_s=0.5)
    worker_id = await register(store)
    await store.enqueue([job()])
    (lease,) = await claim(store, worker_id)
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("LOCK TABLE goqueue.job_history IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(10):
            with pytest.raises((StoreUnavailable, KeyBusy)):
                await store.settle([done(lease)])
    assert await store.settle([done(lease)]) == [Answer.APPLIED]


# -- partitions that are past --------------------------------------------------------------------------


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def tables(url: str) -> set[str]:
    """The tables that are named like a day of the history."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^job_history_2'"
        ).fetchall()
    return {name for (name,) in rows}


def day_of(url: str, day: str, *, attached: bool = True, mark: str = "") -> str:
    """A table for a day (YYYY-MM-DD), as a partition or as one that was detached."""
    name = f"job_history_{day.replace('-', '')}"
    execute(url, f"CREATE TABLE goqueue.{name} (LIKE goqueue.job_history INCLUDING ALL)")
    if attached:
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute("SELECT (%s::date + 1)::text", [day]).fetchone()
            assert row is not None
            bound = f"FROM ('{day}') TO ('{row[0]}')"
            connection.execute(
                f"ALTER TABLE goqueue.job_history ATTACH PARTITION goqueue.{name} FOR VALUES {bound}".encode()
            )
    if mark:
        execute(url, f"COMMENT ON TABLE goqueue.{name} IS '{mark}'")
    return name


async def test_a_partition_that_was_detached_and_not_dropped_goes_with_the_next_upkeep(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store()
    before = tables(database_url)
    name = day_of(database_url, "2020-01-01")
    execute_ = psycopg.AsyncConnection.execute

    async def dies(self: psycopg.AsyncConnection[Any], query: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(query, sql.Composed) and query.as_string(self).startswith("DROP TABLE"):
            raise psycopg.OperationalError("the process has died")
        return await execute_(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", dies)
    await store.sweep(Duty.HISTORY, 10)
    monkeypatch.undo()
    assert name in tables(database_url)
    assert name not in partition_names(database_url), "it is between detach and drop"
    assert (await store.sweep(Duty.HISTORY, 10)).count == 1
    assert tables(database_url) == before


async def test_only_what_is_surely_ours_is_dropped(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    url, mark = database_url, partitions.MARK
    await store.sweep(Duty.HISTORY, 10)
    kept = {
        day_of(url, "2020-02-01", attached=False),  # somebody has detached it, to keep it
        day_of(url, "2020-02-02", attached=False, mark="an archive"),
        day_of(url, "2190-02-03", attached=False, mark=mark),  # not past
        day_of(url, "2020-02-04", attached=False, mark=mark),  # has found another parent
        day_of(url, "2020-02-05", attached=False, mark=mark),  # has children
        day_of(url, "2020-02-06", attached=False, mark=mark),  # a view needs it
    }
    execute(
        url,
        "CREATE TABLE goqueue.archive (LIKE goqueue.job_history)",
        "ALTER TABLE goqueue.job_history_20200204 INHERIT goqueue.archive",
        "CREATE TABLE goqueue.child () INHERITS (goqueue.job_history_20200205)",
        "CREATE VIEW goqueue.needs AS SELECT id FROM goqueue.job_history_20200206",
        "CREATE TABLE goqueue.job_history_20209999 (LIKE goqueue.job_history)",
        f"COMMENT ON TABLE goqueue.job_history_20209999 IS '{mark}'",
    )
    gone = day_of(url, "2020-02-07", attached=False, mark=mark)
    assert (await store.sweep(Duty.HISTORY, 10)).count == 1
    assert tables(url) >= kept | {"job_history_20209999"}
    assert gone not in tables(url)


async def test_a_leftover_that_is_locked_waits_and_one_of_a_deposed_leader_too(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store(lock_timeout_s=0.1)
    await store.sweep(Duty.HISTORY, 10)
    name = day_of(database_url, "2020-02-08", attached=False, mark=partitions.MARK)
    async with await psycopg.AsyncConnection.connect(database_url) as reader:
        await reader.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("goqueue", name)))
        assert (await store.sweep(Duty.HISTORY, 10)).count == 0
    old = await store.elect("upkeep", "a", 60)
    await store.elect("upkeep", "a", 0)
    await store.elect("upkeep", "b", 60)
    connection = await store._database.connect()
    with pytest.raises(partitions.Deposed):
        await partitions.drop_past(connection, store._settings, None, old)
    await connection.close()
    assert name in tables(database_url)
    assert (await store.sweep(Duty.HISTORY, 10)).count == 1
