"""A real PgBouncer between GoQueue and its PostgreSQL (docs/why/pgbouncer.md).

These and the other acceptance tests run through it in the step `tests-pgbouncer` of `make check`, which installs it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.model.admin import Level
from goqueue.model.errors import ConfigurationError, StoreUnavailable
from goqueue.model.job import Unique
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore, fetch
from goqueue.tasks.prepare import new_id
from goqueue.wiring import AsyncClient
from tests.postgres.test_concurrency import claim, done, job, register
from tests.support.apps.line_app import add, work
from tests.support.database import POOLED
from tests.support.pgbouncer import PgBouncer, temporary_pgbouncer
from tests.support.processes import bench, until

if not POOLED:
    pytest.skip("needs PgBouncer: `make check` runs it in its step tests-pgbouncer", allow_module_level=True)

APPS = Path(__file__).parents[1] / "support" / "apps"
ROUNDS = 20
POLL_S = 0.5
RESTARTS = 3
SLACK_S = 20.0
"""What a busy machine may take for anything; every wait is bounded by it, none is expected to need it."""

OpenStore = Callable[..., Any]


@pytest.fixture
def direct_url(postgres_server: EmbeddedPostgres, database_url: str) -> str:
    """This test's database, past the session's pooler."""
    return postgres_server.url_for(str(psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]))


@contextmanager
def pooler(url: str, **settings: str) -> Iterator[tuple[PgBouncer, str]]:
    """A pooler of this test's own, and the url through it."""
    with temporary_pgbouncer(url, **settings) as one:
        yield one, one.behind(url)


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, settings=StoreSettings(**{"self_test_s": 0.3, **settings}))
    try:
        await store.open()
        yield store
    finally:
        await store.close()


# -- what is found out -----------------------------------------------------------------------------


async def test_transaction_mode_is_found_and_told(direct_url: str) -> None:
    with pooler(direct_url) as (_, url):
        async with opened(url) as store:
            assert store.capabilities.notifications is False
            assert store._database.prepare is False
            found = {finding.check: finding for finding in await store.diagnose()}
    assert found["pooler"].level is Level.WARNING
    assert "transaction mode" in found["pooler"].text
    assert "past the pooler" in found["pooler"].do
    assert [finding for finding in found.values() if "could not be looked at" in finding.text] == []


async def test_session_mode_is_as_no_pooler_at_all(direct_url: str) -> None:
    with pooler(direct_url, pool_mode="session", default_pool_size="20") as (_, url):
        async with opened(url) as store:
            assert store.capabilities.notifications is True
            assert store._database.prepare is True
            found = {finding.check: finding for finding in await store.diagnose()}
    assert found["pooler"].level is Level.OK
    assert "session mode" in found["pooler"].text


async def test_statement_mode_is_refused(direct_url: str) -> None:
    with pooler(direct_url, pool_mode="statement") as (_, url):
        store = PostgresStore(url, settings=StoreSettings(self_test_s=0.3))
        try:
            with pytest.raises(ConfigurationError, match=r"statement mode.*pool_mode"):
                await store.open()
            (found,) = await store.diagnose()
            assert (found.check, found.level) == ("pooler", Level.ERROR)
        finally:
            await store.close()
        with bench(APPS, GOQUEUE_URL=url) as place:
            for command in (("server", "--port", "0"), ("worker", "line_app:app"), ("doctor",)):
                ended = await asyncio.to_thread(place.run, *command)
                assert ended.returncode != 0, command
                assert "statement mode" in ended.stdout + ended.stderr, command


async def test_what_a_pooler_refuses_is_explained(direct_url: str) -> None:
    with pooler(direct_url) as (_, url):
        store = PostgresStore(f"{url}?options=-c%20synchronous_commit%3Don", settings=StoreSettings())
        try:
            with pytest.raises(StoreUnavailable, match=r"pooler .* refuses .*options.*ALTER ROLE"):
                await store.diagnose()
        finally:
            await store.close()


# -- what is left behind ---------------------------------------------------------------------------


async def test_nothing_is_left_on_a_session_that_others_get(direct_url: str) -> None:
    """One session of the server for all: what we leave on it the next client would find."""
    with pooler(direct_url, default_pool_size="1") as (_, url):
        async with opened(url) as store:
            worker_id = await register(store)
            await store.enqueue([job() for _ in range(30)])
            await store.enqueue([job(unique=Unique(key="k")), job(unique=Unique(key="l"))])
            leases = await claim(store, worker_id, 20)
            await store.settle([done(lease) for lease in leases])
            await store.pause("default", "mail", True)
            await store.migrate()
            async with AsyncClient(None, url) as client:
                await client.enqueue_many([add.job(n, n) for n in range(30)])
            with psycopg.connect(url, autocommit=True) as other:
                left = other.execute(
                    "SELECT (SELECT count(*) FROM pg_listening_channels()),"
                    " (SELECT count(*) FROM pg_prepared_statements),"
                    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
                    " current_setting('enable_seqscan'), current_setting('statement_timeout'),"
                    " current_setting('transaction_isolation')"
                ).fetchone()
    assert left == (0, 0, 0, "on", "0", "read committed")


async def test_a_schema_is_made_through_it_by_many_at_once(
    postgres_server: EmbeddedPostgres, empty_database_url: str
) -> None:
    direct = postgres_server.url_for(str(psycopg.conninfo.conninfo_to_dict(empty_database_url)["dbname"]))
    with pooler(direct) as (_, url):
        stores = [PostgresStore(url, settings=StoreSettings(self_test_s=0.1)) for _ in range(4)]
        try:
            made = await asyncio.gather(*(store.migrate() for store in stores))
            assert {status.current == status.target for status in made} == {True}
            await stores[0].open()
        finally:
            for store in stores:
                await store.close()


# -- polling ---------------------------------------------------------------------------------------


async def test_one_poll_finds_what_was_committed_before_it(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a pick-up takes a poll interval at most, unless a look for lanes costs so much that it has to rest."""
    monkeypatch.setattr(fetch, "SCAN_CHEAP_S", float("inf"))
    with pooler(direct_url) as (_, url):
        async with opened(url) as worker, opened(url) as enqueuer:
            worker_id = await register(worker)
            for number in range(ROUNDS):
                queue = f"q{number % 3}"
                want = Want(worker_id=worker_id, queues=("q0", "q1", "q2"), total=10)
                assert (await worker.claim(want)).leases == ()
                await enqueuer.enqueue([job(queue=queue)])
                assert len((await worker.claim(want)).leases) == 1


def test_a_worker_says_that_it_polls_and_does_so(direct_url: str, tmp_path: Path) -> None:
    with pooler(direct_url) as (_, url):
        variables = {"GOQUEUE_URL": url, "GOQUEUE_WORKER_POLL_S": str(POLL_S)}
        with bench(APPS, **variables, GOQUEUE_TEST_EFFECTS=str(tmp_path / "effects")) as place:
            server = place.start("server", "--port", "0")
            address = server.wait_for(r"listen .*url=(http://\S+)")[1]
            worker = place.start("worker", "line_app:app")
            worker.wait_for(r"worker +poll .*transaction pooler sits between")
            worker.wait_for(r"worker +store .*notifications=False")
            worker.wait_for(r"worker +start ")
            waits, asks = [], []
            with httpx.Client(base_url=address, timeout=30) as http:
                for n in range(ROUNDS // 2):
                    time.sleep(random.uniform(0, POLL_S))  # anywhere between two polls
                    answer = http.post("/v1/jobs", json={"kind": "add", "args": {"x": n, "y": 1}})
                    record = _completed(http, answer.json()["id"])
                    waits.append(_at(record["attempted_at"]) - _at(record["created_at"]))
                    asked_s = time.perf_counter()
                    http.get(f"/v1/jobs/{record['id']}")
                    asks.append(time.perf_counter() - asked_s)
            for process in (worker, server):
                assert process.stop() == 0, process.output
    # By the server's clock. What this machine takes for a plain question tells how busy it is.
    assert statistics.median(waits) < 1.5 * POLL_S + 100 * statistics.median(asks), (waits, asks)
    assert max(waits) < 1.5 * POLL_S + SLACK_S, waits


def _completed(http: httpx.Client, id: str) -> dict[str, str]:
    """The job, once it is."""
    record: dict[str, str] = {}

    def is_completed() -> bool:
        record.update(http.get(f"/v1/jobs/{id}").json())
        return record["state"] == "completed"

    assert until(is_completed), record
    return record


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# -- trouble ---------------------------------------------------------------------------------------


async def test_a_deadline_reaches_the_server_through_it(direct_url: str) -> None:
    with pooler(direct_url) as (_, url):
        async with opened(url, statement_timeout_s=0.5) as store:
            with psycopg.connect(direct_url) as locker:
                locker.execute("LOCK TABLE goqueue.job IN ACCESS EXCLUSIVE MODE")
                with pytest.raises(StoreUnavailable, match=r"0\.5 s"):
                    await store.enqueue([job()])
                with psycopg.connect(direct_url, autocommit=True) as other:
                    waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
                    assert await asyncio.to_thread(until, lambda: not other.execute(waiting).fetchall(), SLACK_S)
            await store.ping()
            assert len(await store.enqueue([job()])) == 1


async def test_a_transaction_that_keeps_the_only_session(direct_url: str) -> None:
    """A wait for a session of the pool is a wait like others: bounded, retryable, over when it is."""
    with pooler(direct_url, default_pool_size="1") as (_, url):
        async with opened(url, statement_timeout_s=0.5) as store:
            with psycopg.connect(url) as hog:
                hog.execute("SELECT 1")
                async with asyncio.timeout(SLACK_S):
                    with pytest.raises(StoreUnavailable):
                        await store.ping()
            async with asyncio.timeout(SLACK_S):
                while True:
                    try:
                        await store.ping()
                    except StoreUnavailable:
                        continue
                    break


async def test_more_clients_than_it_takes(direct_url: str) -> None:
    with pooler(direct_url, max_client_conn="3") as (_, url):
        held = [await psycopg.AsyncConnection.connect(url) for _ in range(3)]
        store = PostgresStore(url, settings=StoreSettings(connect_timeout_s=0.5, self_test_s=0.1))
        try:
            with pytest.raises(StoreUnavailable, match="max_client_conn"):
                await store.diagnose()
            async with asyncio.timeout(SLACK_S):
                with pytest.raises(StoreUnavailable):
                    await store.ping()
            for connection in held:
                await connection.close()
            async with asyncio.timeout(SLACK_S):
                while True:
                    try:
                        await store.ping()
                    except StoreUnavailable:
                        continue
                    break
        finally:
            await store.close()


async def test_a_pooler_that_is_killed_under_load(direct_url: str, tmp_path: Path) -> None:
    """Every acknowledged job runs, whichever statement was on its way; the worker lives through it."""
    effects = tmp_path / "effects"
    with pooler(direct_url) as (bouncer, url):
        variables = {"GOQUEUE_URL": url, "GOQUEUE_TEST_EFFECTS": str(effects), "GOQUEUE_WORKER_POLL_S": "0.1"}
        with bench(APPS, **variables) as place:
            worker = place.start("worker", "line_app:app")
            await asyncio.to_thread(worker.wait_for, r"worker +start ")
            acknowledged: list[str] = []
            stop, more = asyncio.Event(), asyncio.Event()

            async def enqueue() -> None:
                async with AsyncClient(None, url) as client:
                    while not stop.is_set():
                        try:
                            acknowledged.append((await client.enqueue(work.job(number=1, sleep_s=0.01))).id)
                        except StoreUnavailable:
                            await asyncio.sleep(0.05)
                        more.set()

            enqueuers = [asyncio.create_task(enqueue()) for _ in range(4)]
            for _ in range(RESTARTS):
                before = len(acknowledged)
                async with asyncio.timeout(SLACK_S):
                    while len(acknowledged) < before + 20:
                        more.clear()
                        await more.wait()
                bouncer.kill()
                await asyncio.to_thread(bouncer.start)
            stop.set()
            await asyncio.gather(*enqueuers)
            assert len(acknowledged) >= 20 * RESTARTS

            def done_ids() -> set[str]:
                if not effects.exists():  # the first kill can come before the first job
                    return set()
                return {line.split()[1] for line in effects.read_text().splitlines() if line.count(" ") >= 3}

            assert await asyncio.to_thread(until, lambda: set(acknowledged) <= done_ids())
            async with opened(url) as store:
                async with asyncio.timeout(SLACK_S):
                    while True:
                        records = await store.get("default", acknowledged)
                        if {str(record.state) for record in records if record} == {"completed"}:
                            break
                        await asyncio.sleep(0.05)
            assert None not in records
            worker.send(signal.SIGTERM)
            assert await asyncio.to_thread(worker.end) == 0, worker.output


async def test_a_worker_is_registered_through_it(direct_url: str) -> None:
    """Leases of one session of the pooler are settled on any other."""
    with pooler(direct_url, default_pool_size="3") as (_, url):
        async with opened(url) as one, opened(url) as two:
            info = WorkerInfo(id=new_id(), queues=("default",))
            await one.extend(Beat(worker=info, ttl_s=60))
            await two.enqueue([job() for _ in range(200)])
            claims = await asyncio.gather(*(claim(store, info.id, 25) for store in (one, two) * 4))
            leases = [lease for taken in claims for lease in taken]
            assert len({lease.id for lease in leases}) == len(leases) == 200
            answers = await asyncio.gather(*(two.settle([done(lease)]) for lease in leases[:50]))
            assert {str(answer) for (answer,) in answers} == {"applied"}
