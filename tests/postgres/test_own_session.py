"""A session that is known to be ours keeps settings and hears notifications; one that may be shared keeps nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import Unique
from goqueue.model.lease import Beat, Signal, Want, WorkerInfo
from goqueue.model.query import EnqueueStatus
from goqueue.store.postgres import PostgresStore, signals
from goqueue.store.postgres._async import database
from goqueue.store.postgres._async.jobs import _notify
from goqueue.store.postgres.wakeups import topic
from goqueue.tasks.prepare import new_id
from tests.postgres.test_concurrency import MakeStore, job, make_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["make_store"]  # a fixture

WANT = Want(worker_id="00000000-0000-0000-0000-000000000001", queues=("default",), total=1)


async def setting(store: PostgresStore, name: str) -> str:
    """What the session of the pool's only connection has when no statement is under way."""
    assert store._database._pool is not None
    async with store._database._pool.connection() as connection:
        row = await (await connection.execute(b"SELECT current_setting($1::text)", (name,))).fetchone()
    assert row is not None
    return str(row[0])


async def test_a_session_of_our_own_keeps_the_guard(make_store: MakeStore) -> None:
    store = await make_store(pool_max=1, statement_timeout_s=10.0)
    assert store.capabilities.notifications
    await store.claim(WANT)
    assert await setting(store, "enable_seqscan") == "off"
    assert await setting(store, "lock_timeout") == "8s"
    assert await setting(store, "plan_cache_mode") == "force_generic_plan"


async def test_a_claim_is_planned_once_and_a_look_up_for_its_parameters(make_store: MakeStore) -> None:
    """A claim's plan takes longer than its rows; a look-up's leaves out the partitions that cannot have the id."""
    store = await make_store(pool_max=1, statement_timeout_s=10.0)
    await store.extend(Beat(worker=WorkerInfo(id=WANT.worker_id), ttl_s=60))
    for _ in range(3):
        await store.enqueue([job()])
        assert len((await store.claim(WANT)).leases) == 1
        await store.get("default", [new_id()])
    assert store._database._pool is not None
    async with store._database._pool.connection() as connection:
        cursor = await connection.execute(
            b"SELECT statement LIKE '%turnstile%', generic_plans, custom_plans FROM pg_prepared_statements"
            b" WHERE statement ~ 'turnstile|FROM goqueue.job_history'"
        )
        assert sorted(await cursor.fetchall()) == [(False, 0, 3), (True, 3, 0)]


async def test_a_session_that_may_be_shared_is_left_as_it_was(make_store: MakeStore) -> None:
    store = await make_store(pool_max=1)
    store._database.prepare = False
    await store.enqueue([job()])
    await store.claim(WANT)
    assert await setting(store, "enable_seqscan") == "on"
    assert await setting(store, "lock_timeout") == "0"
    assert await setting(store, "plan_cache_mode") == "auto"


async def test_a_wake_up_that_comes_with_the_answer_to_a_probe_is_heard(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "PROBE_S", 0.0)  # probe after probe
    store = await make_store()
    heard: AsyncIterator[Signal] = store.signals("default", ("default",))
    assert await anext(heard) == Signal("")
    async with asyncio.timeout(10):
        for _ in range(20):
            await store._database.run(_notify((topic("default", "default"),)))
            assert await anext(heard) == Signal("default")


async def test_an_enqueue_that_meets_a_locked_table_finds_the_store_unavailable(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store(pool_max=1, statement_timeout_s=0.5)
    await store.claim(WANT)  # its session keeps the bound for locks from now on
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("LOCK TABLE goqueue.job IN ACCESS EXCLUSIVE MODE")
        for jobs in ([job()], [job(), job()]):
            with pytest.raises(StoreUnavailable, match=r"0\.5 s"):
                await store.enqueue(jobs)


async def test_a_session_that_is_heard_but_is_anothers_is_left_as_it_was(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler that passes notifications on: its sessions belong to other processes than those that it names."""
    monkeypatch.setattr(database, "IF_OWN", database.IF_OWN.replace("=", "<>"))
    store = await make_store(pool_max=1)
    assert store.capabilities.notifications
    await store.enqueue([job()])
    await store.claim(WANT)
    assert await setting(store, "enable_seqscan") == "on"
    assert await setting(store, "lock_timeout") == "0"
    assert await setting(store, "plan_cache_mode") == "auto"


async def test_jobs_whose_wake_up_cannot_be_sent_are_stored(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store()
    run = store._database.run

    async def fail_to_notify(plan: Any, **how: Any) -> Any:  # Any: whatever `run` takes and gives
        if plan.__name__ == "_notify":
            raise StoreUnavailable("gone")
        return await run(plan, **how)

    monkeypatch.setattr(store._database, "run", fail_to_notify)
    (answer,) = await store.enqueue([job()], retry=True)
    assert answer.status is EnqueueStatus.INSERTED
    assert store._wakeups._due


async def test_a_wake_up_does_not_wait_with_an_enqueue_that_waits_for_a_key(
    make_store: MakeStore, database_url: str
) -> None:
    """Jobs that are committed have a wake-up due; it does not ride with one that may be under way for long."""
    store = await make_store(notify_window_s=2.0)
    listener = await make_store()
    keyed = job(unique=Unique(key="held"))
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await PostgresStore.enqueue_in(store, other, [keyed])
        heard: AsyncIterator[Signal] = listener.signals("default", ("default",))
        assert await anext(heard) == Signal("")
        await store.enqueue([job()])
        async with asyncio.timeout(10):
            assert await anext(heard) == Signal("default")
        await store.enqueue([job()])  # its wake-up is due at the end of the window
        assert store._wakeups._due
        await asyncio.sleep(1.1)  # from half of the window on, an enqueue would carry it
        waits = asyncio.create_task(store.enqueue([job(unique=Unique(key="held"))]))
        async with asyncio.timeout(5):
            assert await anext(heard) == Signal("default")
        assert not waits.done()
        await other.rollback()
    await waits
