"""Connections: bounded, counted, and made again with pauses that are spread."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from structlog.testing import capture_logs

from goqueue.model.errors import StoreUnavailable
from goqueue.model.lease import Signal
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore, signals
from goqueue.store.postgres._async.database import AsyncDeadlineConnection
from goqueue.store.postgres._sync.jobs import PostgresJobs
from goqueue.store.postgres.connections import BESIDE_MAX
from tests.postgres.test_concurrency import MakeStore, job, make_store

__all__ = ["make_store"]  # a fixture


def sessions(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'goqueue'"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_connections_are_counted_and_bounded(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(pool_max=3)
    await store.enqueue([job()])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("LOCK TABLE goqueue.job IN ACCESS EXCLUSIVE MODE")
        enqueues = [asyncio.create_task(store.enqueue([job()])) for _ in range(20)]
        async with asyncio.timeout(10):
            while (store.connections.open, store.connections.waiting) != (4, 17):  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)
        seen = store.connections
        # Three of the pool, and the one that listens.
        assert (seen.open, seen.in_use, seen.beside, seen.waiting) == (4, 4, 1, 17)
        assert sessions(database_url) == seen.open <= seen.max
        await other.rollback()
    await asyncio.gather(*enqueues)
    async with asyncio.timeout(10):
        while (seen := store.connections).in_use != 1:  # noqa: ASYNC110  given back in the background
            await asyncio.sleep(0.01)
    assert (seen.open, seen.in_use, seen.waiting, seen.lost, seen.failed) == (4, 1, 0, 0, 0)


async def test_lost_connections_are_counted_and_made_again(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(pool_max=2)
    heard = store.signals("default", ("default",))
    assert await anext(heard) == Signal("")
    await store.ping()
    before = store.connections
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with asyncio.timeout(10):
        assert await anext(heard) == Signal("")
        while True:
            try:
                await store.ping()
            except StoreUnavailable:
                continue
            break
    after = store.connections
    assert after.lost >= before.lost + 2
    assert after.opened >= before.opened + 2
    assert after.open <= after.max
    assert store.capabilities.notifications


async def test_what_is_beside_the_pool_is_bounded(make_store: MakeStore) -> None:
    store = await make_store()
    held = [await store._database.connect() for _ in range(BESIDE_MAX - store.connections.beside)]
    with pytest.raises(StoreUnavailable, match="outside the pool"):
        await store.schema()
    await held.pop().close()
    assert (await store.schema()).pending == ()
    for connection in held:
        await connection.close()
    assert store.connections.beside == 1


async def test_a_listener_that_was_heard_before_does_not_take_a_slow_server_for_a_pooler(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store()
    hears_itself = store._database.hears_itself
    deaf = 2

    async def slow(*args: object) -> bool:
        nonlocal deaf
        deaf -= 1
        return False if deaf >= 0 else await hears_itself(*args)  # type: ignore[arg-type]  # handed on as they come

    monkeypatch.setattr(store._database, "hears_itself", slow)
    heard = store.signals("default", ("default",))
    assert await anext(heard) == Signal("")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with asyncio.timeout(20):
        assert await anext(heard) == Signal("")
    assert deaf < 0
    assert store.capabilities.notifications


async def test_a_listener_whose_self_test_came_too_late_listens_later(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = PostgresStore(database_url, settings=StoreSettings(self_test_s=0.5)), await make_store()
    hears_itself = store._database.hears_itself
    asked: list[float] = []

    async def slow(listener: AsyncDeadlineConnection, timeout_s: float) -> bool:
        asked.append(timeout_s)
        return len(asked) > 3 and await hears_itself(listener, timeout_s)

    monkeypatch.setattr(store._database, "hears_itself", slow)
    monkeypatch.setattr(signals, "TEST_AGAIN_S", 0.01)
    with capture_logs() as logs:
        heard = store.signals("default", ("default",))
        async with asyncio.timeout(20):
            assert await anext(heard) == Signal("")
            while not store.capabilities.notifications:
                await anext(heard)
            assert store._database.prepare
            await other.enqueue([job()])
            while await anext(heard) != Signal("default"):
                pass
    await store.close()
    assert len(asked) == 4
    assert asked[0] == 0.5 < asked[1], "later it may take its time"
    assert [entry["event"] for entry in logs if entry["event"] in ("poll", "listen")] == ["poll", "listen"]


def test_self_tests_come_again_and_ever_later() -> None:
    assert [signals.again_s(n, lambda: 1.0) for n in (1, 2, 3, 7, 5000)] == [60, 120, 240, 3600, 3600]
    assert signals.again_s(1, lambda: 0.0) == 30, "spread"


def test_a_client_counts_its_connections(database_url: str) -> None:
    jobs = PostgresJobs(database_url)
    assert jobs.connections.open == 0
    jobs.open()
    try:
        assert (jobs.connections.open, jobs.connections.in_use) == (1, 0)
    finally:
        jobs.close()
