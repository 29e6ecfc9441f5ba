"""Faults that a review of the store found where two statements meet: in locks, in their order, in ids used twice."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg import sql

from goqueue.model.admin import Duty
from goqueue.model.errors import KeyBusy
from goqueue.model.job import ErrorInfo, NewJob, OnConflict, Unique
from goqueue.model.lease import Beat, Lease, Signal, Want, WorkerInfo
from goqueue.model.outcome import Answer, Dead, Settlement
from goqueue.model.query import ChangeStatus, DeleteJobs, EnqueueStatus, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.postgres import PostgresStore, partitions
from goqueue.store.postgres.lanes import START, Lane
from goqueue.store.postgres.sql import query, text
from goqueue.store.postgres.verbs import enqueue as enqueue_verb
from goqueue.store.postgres.verbs import work as work_verb
from tests.postgres.test_concurrency import MakeStore, claim, done, job, make_store, register

__all__ = ["make_store"]  # a fixture


def keyed(key: str, **options: Any) -> NewJob[object]:
    return job(unique=Unique(key=key, **options))


KEYS = sorted("abcdef", key=lambda key: keyed(key).unique.digest)  # type: ignore[union-attr]  # it has one


def dead(lease: Lease) -> Settlement:
    return Settlement(lease.ref, lease.fence, Dead(ErrorInfo("Error", "no")))


async def statuses(store: PostgresStore, ids: list[str], change: RetryJobs | DeleteJobs) -> list[ChangeStatus]:
    return [changed.status for changed in await store.change(Selection("default", tuple(ids)), change)]


async def dead_letters(store: PostgresStore, worker_id: str, *keys: str) -> list[str]:
    jobs = [keyed(key) for key in keys]
    await store.enqueue(jobs)
    await store.settle([dead(lease) for lease in await claim(store, worker_id)])
    return [j.id for j in jobs]


# -- ids that are used twice ----------------------------------------------------------------------


async def test_what_runs_is_not_decided_by_an_earlier_job_of_its_id(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    twice = job()
    await store.enqueue([twice])
    (lease,) = await claim(store, worker_id)
    await store.settle([done(lease)])
    await store.enqueue([twice])
    (lease,) = await claim(store, worker_id)
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job FOR UPDATE")
        assert await store.settle([done(lease)]) == [Answer.BUSY]
        await other.rollback()
    assert await store.settle([done(lease)]) == [Answer.APPLIED]


async def test_of_an_id_that_is_history_twice_the_later_end_is_retried(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    twice, other = job(), job()
    await store.enqueue([twice, other])
    await store.settle([done(lease) for lease in await claim(store, worker_id)])
    await store.enqueue([twice])
    await store.settle([dead(lease) for lease in await claim(store, worker_id)])
    assert await statuses(store, [twice.id, other.id], RetryJobs()) == [ChangeStatus.CHANGED] * 2
    leases = {lease.id: lease for lease in await claim(store, worker_id)}
    assert leases.keys() == {twice.id, other.id}
    (record,) = await store.get("default", [twice.id])
    assert record is not None
    assert [error.type for error in record.errors] == ["Error"]


async def test_a_delete_leaves_the_history_of_an_id_that_runs(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    twice = job()
    await store.enqueue([twice])
    await store.settle([done(lease) for lease in await claim(store, worker_id)])
    await store.enqueue([twice])
    (lease,) = await claim(store, worker_id)
    assert await statuses(store, [twice.id], DeleteJobs()) == [ChangeStatus.WRONG_STATE]
    await store.settle([done(lease)])
    assert await statuses(store, [twice.id], DeleteJobs()) == [ChangeStatus.CHANGED]
    assert await store.get("default", [twice.id]) == [None]


# -- locks ----------------------------------------------------------------------------------------


async def test_a_retry_of_a_locked_job_says_that_it_is_busy(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    later, due = job(delay_s=3600), job()
    await store.enqueue([later, due])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job FOR UPDATE")
        expected = [ChangeStatus.BUSY, ChangeStatus.UNCHANGED]
        assert await statuses(store, [later.id, due.id], RetryJobs()) == expected
        assert await statuses(store, [later.id, due.id], RetryJobs(delay_s=7200)) == [ChangeStatus.UNCHANGED] * 2
        await other.rollback()
    assert await statuses(store, [later.id], RetryJobs()) == [ChangeStatus.CHANGED]


async def test_a_retry_does_not_wait_for_the_hold_of_another_job(make_store: MakeStore, database_url: str) -> None:
    """Nor locks it: whoever settles that job frees it, and must not wait, in whatever order."""
    store = await make_store()
    worker_id = await register(store)
    letters = await dead_letters(store, worker_id, *KEYS)
    await store.enqueue([keyed(KEYS[0])])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job_key FOR UPDATE")
        expected = [ChangeStatus.KEY_HELD] + [ChangeStatus.CHANGED] * 5
        assert await statuses(store, letters, RetryJobs()) == expected
        await other.rollback()


async def test_a_key_that_is_being_taken_holds_up_only_the_retry_of_its_job(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store()
    worker_id = await register(store)
    letters = await dead_letters(store, worker_id, *KEYS)
    await store.enqueue([keyed(KEYS[0])])
    (running,) = await claim(store, worker_id)
    async with await psycopg.AsyncConnection.connect(database_url) as caller:
        await store.enqueue_in(caller, [keyed(KEYS[-1])])
        change = asyncio.create_task(statuses(store, letters, RetryJobs()))
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as looker:
            await _until(looker, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        # The retry waits, and has met the key of the job that runs: its settle does not wait for the retry.
        settle = asyncio.create_task(store.settle([done(running)]))
        first, _ = await asyncio.wait({change, settle}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        assert settle in first
        assert (await change)[1:] == [ChangeStatus.CHANGED] * 4 + [ChangeStatus.BUSY]
        await caller.rollback()
    assert await statuses(store, letters[-1:], RetryJobs()) == [ChangeStatus.CHANGED]


async def test_lapsed_holds_are_freed_in_the_order_of_their_keys(make_store: MakeStore, database_url: str) -> None:
    """Whatever the order of the jobs: two that free the same ones must not wait for each other."""
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([keyed(key, final_states=(JobState.COMPLETED,), window_s=0.001) for key in KEYS])
    await store.settle([done(lease) for lease in await claim(store, worker_id)])
    async with (
        await psycopg.AsyncConnection.connect(database_url) as first,
        await psycopg.AsyncConnection.connect(database_url, cursor_factory=psycopg.AsyncRawCursor) as second,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as looker,
    ):
        rows = await (await looker.execute("SELECT key FROM goqueue.job_key ORDER BY key DESC")).fetchall()
        keys = [row[0] for row in rows]
        await _until(looker, "SELECT every(until <= clock_timestamp()) FROM goqueue.job_key")
        lock = "SELECT FROM goqueue.job_key WHERE key = %s FOR UPDATE NOWAIT"
        await first.execute(lock, [keys[-1]])
        await second.execute(b"SET enable_seqscan = off")  # as ours are run
        columns = [None, ["default"] * 6, ["default"] * 6, keys]
        freed = asyncio.create_task(second.execute(text("enqueue_expire_keys").encode(), columns))
        await _until(looker, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        await first.execute(lock, [keys[0]])  # the lowest one is waited for with nothing in hand
        await first.rollback()
        assert (await freed).rowcount == 6


async def test_a_key_that_stays_taken_costs_no_connections(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(statement_timeout_s=2)
    async with await psycopg.AsyncConnection.connect(database_url) as caller:
        await store.enqueue_in(caller, [keyed("k")])
        lost = store.connections.lost
        for jobs in ([keyed("k")], [keyed("k"), job()]):
            with pytest.raises(KeyBusy):
                await store.enqueue(jobs)
        assert store.connections.lost == lost
        await caller.rollback()


async def test_a_replace_does_not_give_up_at_once(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two at the same time, the later one counts too: its arguments are not dropped while the job waits."""
    monkeypatch.setattr(enqueue_verb, "_LOOKS_MAX", 10_000)
    store = await make_store()
    (held,) = await store.enqueue([keyed("k")])
    async with (
        await psycopg.AsyncConnection.connect(database_url) as other,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as looker,
    ):
        await other.execute("SELECT FROM goqueue.job FOR UPDATE")
        newer = keyed("k", on_conflict=OnConflict.REPLACE)
        task = asyncio.create_task(store.enqueue([newer]))
        await _until(looker, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        await other.rollback()
        (answer,) = await task
    assert (answer.status, answer.ref) == (EnqueueStatus.REPLACED, held.ref)


# -- upkeep ---------------------------------------------------------------------------------------


async def test_bad_orphans_of_many_workers_hide_no_other(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    ids = []
    for n in range(102):
        worker_id = await register(store, ttl_s=1 + n)
        await store.enqueue([job()])
        ids += [lease.id for lease in await claim(store, worker_id, 1)]
    check = "ALTER TABLE goqueue.job ADD CONSTRAINT bad CHECK (id = {} OR state = 1) NOT VALID"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(sql.SQL(check).format(sql.Literal(ids[-1])))
    store.time_travel(3600)
    assert (await store.sweep(Duty.ORPHANS, 500)).count == 1


async def test_a_partition_that_somebody_else_drops_is_no_error(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store()
    store.time_travel(30 * 86_400)
    existing = partitions._existing

    async def then_dropped(connection: Any) -> Any:
        found = await existing(connection)
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            for _, name, _ in found[:2]:
                await other.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("goqueue", name)))
        return found

    connection = await store._database.connect()
    try:
        past = len([day for day, _, _ in await existing(connection)])
        monkeypatch.setattr(partitions, "_existing", then_dropped)
        assert await partitions.drop_past(connection, store._settings, store._now()) == past - 2
    finally:
        await connection.close()


async def test_a_burst_for_one_queue_hides_no_signal(make_store: MakeStore) -> None:
    store = await make_store()
    assert await store.listen()
    signals = store.signals("default", ("a", "b"))
    assert await anext(signals) == Signal("")
    listener = store._listener
    assert listener is not None
    for topic in ["default/a"] * 100 + ["default/b", "default/\tcancels"]:
        listener._deliver(topic)
    async with asyncio.timeout(10):
        assert [await anext(signals) for _ in range(3)] == [Signal("a"), Signal("b"), Signal(cancels=True)]


async def _until(connection: psycopg.AsyncConnection[Any], condition: str) -> None:
    async with asyncio.timeout(30):
        while True:
            row = await (await connection.execute(condition.encode())).fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(0.01)


# -- workers -------------------------------------------------------------------------------------------


async def test_a_claim_that_commits_after_its_worker_was_given_up_is_swept(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job()])
    want = Want(worker_id=worker_id, queues=("default",), total=10)
    statement = next(work_verb.claim(want, [(Lane("default", 5, ""), START)], (), store._settings))
    connection = await store._database.connect()
    async with connection.transaction():
        assert (await connection.execute(query(statement.name), statement.params)).rowcount == 1
        # Its supervisor has seen it die, and upkeep forgets it; what it has claimed is not to be seen yet.
        await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
        assert (await store.sweep(Duty.ORPHANS, 100)).count == 0
        await store.sweep(Duty.WORKERS, 100)
    await connection.close()
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 1, "the next routine sweep, and not only the full one"
