"""`goqueue doctor`'s look at a database: each check on a database where it is not well."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest
from psycopg import sql

from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.model.admin import Finding, Level
from goqueue.model.errors import ConfigurationError, StoreUnavailable
from goqueue.model.lease import Beat, WorkerInfo
from goqueue.model.outcome import Settlement, Snooze
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore, diagnosis
from goqueue.store.postgres._async.database import AsyncDatabase
from goqueue.store.postgres.grants import grant
from goqueue.store.postgres.verbs import diagnose as verbs
from goqueue.store.postgres.verbs import diagnose_own as own
from goqueue.store.postgres.verbs.diagnose import Limits
from goqueue.tasks.prepare import new_id
from tests.postgres.test_concurrency import MakeStore, claim, done, job, make_store, register
from tests.support.database import bin_dir, temporary_database, temporary_folder

__all__ = ["make_store"]  # a fixture

SETTINGS = StoreSettings(self_test_s=0.3)
CHECKS = {
    *("pooler", "server_version", "primary", "privileges", "clock", "durability", "connections", "oldest_snapshot"),
    *("schema_version", "tables", "indexes", "dead_tuples", "autovacuum", "wraparound", "partitions", "locks"),
    *("workers", "leader", "versions", "overdue", "pauses", "unserved_queues", "unknown_kinds"),
}
ANY = Limits(snapshot_s=0, lock_s=0)


async def looked(
    url: str, limits: Limits | None = None, *, now: datetime | None = None, clock: Callable[[], float] = time.time
) -> dict[str, Finding]:
    """All findings by their check."""
    database = AsyncDatabase(url, SETTINGS)
    findings = await diagnosis.diagnose(database, SETTINGS, now, limits=limits, clock=clock)
    assert len({finding.check for finding in findings}) == len(findings), "one finding for each check"
    return {finding.check: finding for finding in findings}


def is_bad(finding: Finding, level: Level, *texts: str) -> None:
    """Hold a finding to a level and to what it says; bad ones say what to do."""
    assert finding.level is level, finding
    assert finding.do, finding
    for text in texts:
        assert text in f"{finding.text} {finding.do}", finding


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, each in a transaction of its own; the rows of the last."""
    rows: list[tuple[Any, ...]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


def name_of(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


@pytest.fixture(scope="module")
def special_server() -> Iterator[EmbeddedPostgres]:
    """A durable server with prepared transactions and logical slots, whose settings tests may change."""
    settings = {"max_prepared_transactions": "4", "wal_level": "logical"}
    with (
        temporary_folder() as folder,
        EmbeddedPostgres(folder / "server", bin_dir=bin_dir(), settings=settings) as server,
    ):
        yield server


@pytest.fixture
async def special_url(special_server: EmbeddedPostgres) -> AsyncIterator[str]:
    with temporary_database(special_server) as url:
        store = PostgresStore(url, settings=SETTINGS)
        await store.migrate()
        await store.close()
        yield url


@contextmanager
def altered(url: str, name: str, value: str) -> Iterator[None]:
    """A setting of the whole server, for a while."""
    execute(url, f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")
    _until(lambda: execute(url, f"SHOW {name}") == [(value,)])
    try:
        yield
    finally:
        execute(url, f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")
        _until(lambda: execute(url, f"SHOW {name}") != [(value,)])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


# -- a database that is well -----------------------------------------------------------------------


async def test_a_database_that_is_well(special_url: str) -> None:
    store = PostgresStore(special_url, settings=SETTINGS)
    try:
        await store.extend(Beat(worker=WorkerInfo(id=new_id(), version=diagnosis._version()), ttl_s=60))
        await store.elect("sweep", "me", 60)
        findings = await store.diagnose()
    finally:
        await store.close()
    assert {finding.check for finding in findings} == CHECKS
    assert [finding for finding in findings if finding.level is not Level.OK or finding.do] == []


async def test_a_server_that_is_away() -> None:
    with pytest.raises(StoreUnavailable):
        await looked("postgresql://nobody@127.0.0.1:1/nowhere")


# -- who holds dead rows ---------------------------------------------------------------------------


async def test_the_holder_of_a_snapshot_is_named(database_url: str) -> None:
    with psycopg.connect(database_url, application_name="monthly report") as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 'what it looks at' FROM goqueue.job")
        pid = holder.info.backend_pid
        found = (await looked(database_url, ANY))["oldest_snapshot"]
        is_bad(
            found, Level.WARNING, f"pid {pid}", "monthly report", "user goqueue", "client 127.0.0.1", "idle in trans"
        )
        is_bad(found, Level.WARNING, "what it looks at", f"pg_terminate_backend({pid})")
        young = (await looked(database_url))["oldest_snapshot"]
        assert young.level is Level.OK
        assert str(pid) in young.text


async def test_a_prepared_transaction_is_named(special_url: str) -> None:
    with psycopg.connect(special_url, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO goqueue.record VALUES ('x', '', 1)")
        connection.execute("PREPARE TRANSACTION 'it''s left'")
    try:
        found = (await looked(special_url, ANY))["oldest_snapshot"]
        is_bad(found, Level.WARNING, 'prepared transaction "it\'s left"', "ROLLBACK PREPARED 'it''s left'")
    finally:
        execute(special_url, "ROLLBACK PREPARED 'it''s left'")
    assert (await looked(special_url, ANY))["oldest_snapshot"].level is Level.OK


async def test_a_forgotten_slot_is_named(special_url: str) -> None:
    execute(special_url, "SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
    try:
        found = (await looked(special_url))["oldest_snapshot"]
        is_bad(found, Level.WARNING, "slot 'forgotten' (inactive)", "pg_drop_replication_slot('forgotten')")
    finally:
        execute(special_url, "SELECT pg_drop_replication_slot('forgotten')")


def test_a_standby_and_a_hidden_session_are_judged_by_their_transactions() -> None:
    standby = ("standby", "7", "replica", "rep", "10.0.0.2", "streaming", None, 200_000, None, False, False)
    hidden = ("session", "8", "app", "other", "local", "hidden", None, 200_000, "<insufficient privilege>", False, True)
    young = ("session", "9", "app", "other", "local", "hidden", None, 10, "<insufficient privilege>", False, False)
    found = verbs.snapshots([standby, hidden, young], Limits())
    is_bad(found, Level.WARNING, "pid 7 (replica", "hot_standby_feedback", "pid 8 (app, user other", "200,000")
    assert "pid 9" not in found.text


async def test_a_transaction_that_sits_on_our_rows(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    async with await psycopg.AsyncConnection.connect(database_url, application_name="shop") as shop:
        await store.enqueue_in(shop, [job()])
        found = await looked(database_url, ANY)
        pid = shop.info.backend_pid
        is_bad(found["oldest_snapshot"], Level.WARNING, f"pid {pid} (shop", "locks on our tables")
        is_bad(
            found["locks"], Level.WARNING, f"pid {pid} (shop", "RowExclusiveLock on job", f"terminate_backend({pid})"
        )
        assert (await looked(database_url))["locks"].level is Level.OK


async def test_a_strong_lock_stops_one_look_and_not_the_others(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as locker, asyncio.timeout(60):
        await locker.execute("LOCK TABLE goqueue.job IN ACCESS EXCLUSIVE MODE")
        waiter = asyncio.create_task(asyncio.to_thread(execute, database_url, "SELECT count(*) FROM goqueue.job"))
        await asyncio.to_thread(_until, lambda: bool(execute(database_url, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        found = await looked(database_url, ANY)
        pid = locker.info.backend_pid
        is_bad(found["locks"], Level.WARNING, "waits for AccessShareLock on job", f"behind pid {pid}")
        is_bad(found["locks"], Level.WARNING, f"terminate_backend({pid})")
        is_bad(found["dead_tuples"], Level.WARNING, "could not be looked at", "a lock was not free in time")
        assert found["partitions"].level is Level.OK
        await locker.rollback()
        await waiter


# -- tables ----------------------------------------------------------------------------------------


async def test_dead_rows_and_autovacuum_off_for_the_table(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    execute(database_url, "ALTER TABLE goqueue.job SET (autovacuum_enabled = off)")
    worker_id = await register(store)
    await store.enqueue([job() for _ in range(60)])
    await store.settle([done(lease) for lease in await claim(store, worker_id)])
    await store.close()  # a session that leaves tells what it has done; one that rests does so ten seconds later
    limits = Limits(dead_rows=50)
    deadline = time.monotonic() + 20
    while (found := await looked(database_url, limits))["dead_tuples"].level is Level.OK:
        assert time.monotonic() < deadline, found["dead_tuples"]
    is_bad(found["dead_tuples"], Level.WARNING, "last vacuumed never", "VACUUM goqueue.job")
    is_bad(found["autovacuum"], Level.WARNING, "goqueue.job", "RESET (autovacuum_enabled)")
    execute(database_url, found["autovacuum"].do, "VACUUM goqueue.job")
    while (found := await looked(database_url, limits))["dead_tuples"].level is not Level.OK:
        assert time.monotonic() < deadline, found["dead_tuples"]
    assert found["autovacuum"].level is Level.OK
    bloated = await looked(database_url, Limits(bloat_bytes=1, bytes_per_job=1))
    is_bad(bloated["dead_tuples"], Level.WARNING, "far more than its rows need", "REINDEX")


async def test_autovacuum_off_for_the_server(special_url: str) -> None:
    with altered(special_url, "autovacuum", "off"):
        is_bad((await looked(special_url))["autovacuum"], Level.WARNING, "whole server", "ALTER SYSTEM")
    with altered(special_url, "track_counts", "off"):
        is_bad((await looked(special_url))["autovacuum"], Level.WARNING, "track_counts")


def test_wraparound() -> None:
    def found(age: int) -> Finding:
        row: tuple[Any, ...] = (10, 0, 8192, 8192, 5.0, None, [], True, True, age, 50, 200_000_000)
        return next(f for f in verbs.tables([row], Limits()) if f.check == "wraparound")

    assert found(190_000_000).level is Level.OK
    is_bad(found(900_000_000), Level.WARNING, "900,000,000", "VACUUM FREEZE")
    is_bad(found(2_000_000_000), Level.ERROR, "93%")


async def test_an_unlogged_table(database_url: str) -> None:
    execute(database_url, "ALTER TABLE goqueue.queue_pause SET UNLOGGED")
    found = (await looked(database_url))["unlogged"]
    is_bad(found, Level.ERROR, "queue_pause")
    execute(database_url, found.do)
    assert "unlogged" not in await looked(database_url)


# -- schema ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", sorted(name for name, (_, made) in own.expected().indexes.items() if made))
async def test_a_missing_index_and_what_makes_it_again(database_url: str, index: str) -> None:
    execute(database_url, f"DROP INDEX goqueue.{index}")
    found = (await looked(database_url))["indexes"]
    is_bad(found, Level.ERROR, f"index {index} of ", "is missing")
    execute(database_url, found.do)
    assert (await looked(database_url))["indexes"].level is Level.OK


async def test_indexes_that_are_not_valid(database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO goqueue.record VALUES ('a', '', 1), ('b', '', 1)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'goqueue.job_running'::regclass",
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(database_url, "CREATE UNIQUE INDEX CONCURRENTLY leftover ON goqueue.record (version)")
    found = (await looked(database_url))["indexes"]
    is_bad(found, Level.ERROR, "job_running of job is not valid", "leftover of record is not valid")
    execute(database_url, *found.do.split("; "))
    execute(database_url, "CREATE INDEX a_users_own ON goqueue.job (kind)")
    found = (await looked(database_url))["indexes"]
    assert (found.level, found.do) == (Level.OK, "")
    assert "a_users_own" in found.text


async def test_a_missing_key_table_and_column(database_url: str) -> None:
    execute(
        database_url,
        "ALTER TABLE goqueue.job DROP CONSTRAINT job_pkey",
        "ALTER TABLE goqueue.queue_pause DROP COLUMN paused_at",
        "DROP TABLE goqueue.record",
    )
    found = await looked(database_url)
    is_bad(found["indexes"], Level.ERROR, "job_pkey", "record_pkey")
    is_bad(found["tables"], Level.ERROR, "missing: record, queue_pause.paused_at")


async def test_the_schema_is_none_older_newer_or_anothers(database_url: str, empty_database_url: str) -> None:
    found = await looked(empty_database_url)
    is_bad(found["schema_version"], Level.ERROR, "no GoQueue schema", "goqueue db migrate")
    assert "durability" in found, "what needs no schema is looked at"
    execute(database_url, "UPDATE goqueue.schema_migration SET checksum = 'x' WHERE version = 1")
    is_bad((await looked(database_url))["schema_version"], Level.ERROR, "another text")
    execute(database_url, "DELETE FROM goqueue.schema_migration WHERE version = 1")
    is_bad((await looked(database_url))["schema_version"], Level.ERROR, "goqueue db migrate")
    execute(database_url, "INSERT INTO goqueue.schema_migration VALUES (999, 'later', 'x')")
    found = await looked(database_url)
    is_bad(found["schema_version"], Level.ERROR, "schema 999", "upgrade GoQueue")
    assert "indexes" not in found, "those of another version are not compared"


# -- server ----------------------------------------------------------------------------------------


async def test_wake_ups_that_do_not_arrive(
    database_url: str, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent in another database. What a real pooler looks like: tests/acceptance/test_pgbouncer.py."""
    database = AsyncDatabase(database_url, SETTINGS)
    hears = database.hears_itself

    async def astray(listener: Any, timeout_s: float) -> bool:
        monkeypatch.setattr(database, "url", empty_database_url)
        return await hears(listener, timeout_s)

    monkeypatch.setattr(database, "hears_itself", astray)
    found = await diagnosis.diagnose(database, SETTINGS)
    is_bad(found[0], Level.WARNING, "did not arrive", "no pooler is to be seen")


async def test_durability(special_url: str) -> None:
    found = (await looked(special_url))["durability"]
    assert found.level is Level.OK
    assert "no standby follows" in found.text
    database = name_of(special_url)
    role = f'shop "{uuid.uuid4().hex[:8]}'
    quoted = sql.Identifier(role).as_string()
    execute(special_url, f"CREATE ROLE {quoted}", f"ALTER ROLE {quoted} SET synchronous_commit = off")
    try:
        found = (await looked(special_url))["durability"]
        is_bad(found, Level.ERROR, f"synchronous_commit = off for role {role}")
        execute(special_url, found.do)
        assert (await looked(special_url))["durability"].level is Level.OK
    finally:
        execute(special_url, f"DROP ROLE {quoted}")
    execute(special_url, f"ALTER DATABASE {database} SET synchronous_commit = off")
    found = (await looked(special_url))["durability"]
    is_bad(found, Level.ERROR, f"for database {database}", "(by database)")
    execute(special_url, found.do)
    assert (await looked(special_url))["durability"].level is Level.OK
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        with altered(special_url, setting, "off"):
            is_bad((await looked(special_url))["durability"], Level.ERROR, f"{setting} = off", f"SET {setting} = on")
    with altered(special_url, "synchronous_standby_names", "nobody"):
        is_bad((await looked(special_url))["durability"], Level.ERROR, "every commit waits")


async def test_a_role_that_acknowledges_too_early_by_its_url(special_url: str) -> None:
    found = await looked(f"{special_url}?options={quote('-c synchronous_commit=off', safe='')}")
    is_bad(found["durability"], Level.ERROR, "synchronous_commit = off (by client)", "URL")


async def test_clocks(database_url: str) -> None:
    found = (await looked(database_url, clock=lambda: time.time() + 600))["clock"]
    is_bad(found, Level.WARNING, "s ahead of the server's", "NTP")
    found = (await looked(database_url, clock=lambda: time.time() - 600))["clock"]
    is_bad(found, Level.WARNING, "s behind the server's")


async def test_connections_near_their_limit(database_url: str) -> None:
    execute(database_url, f"ALTER DATABASE {name_of(database_url)} CONNECTION LIMIT 5")
    assert (await looked(database_url))["connections"].level is Level.OK
    with connections_held(database_url, 3):
        is_bad((await looked(database_url))["connections"], Level.WARNING, "4 of the database's 5", "pool_max")
    with connections_held(database_url, 4):
        is_bad((await looked(database_url))["connections"], Level.ERROR, "5 of the database's 5")


@contextmanager
def connections_held(url: str, count: int) -> Iterator[None]:
    """Hold some connections; before and after, wait until the server has seen others leave."""
    used = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url, autocommit=True) as first:
        _until(lambda: first.execute(used.encode()).fetchall() == [(1,)])
        others = [psycopg.connect(url) for _ in range(count - 1)]
        try:
            yield
        finally:
            for other in others:
                other.close()


def test_versions_of_servers_standbys_and_read_only_ones() -> None:
    def found(number: int = 180_006, *, standby: bool = False, read_only: bool = False) -> dict[str, Finding]:
        row = (number, "some", standby, read_only, "me", True, 0)
        return {finding.check: finding for finding in verbs.server([row])}

    assert {finding.level for finding in found().values()} == {Level.OK}
    is_bad(found(140_010)["server_version"], Level.ERROR, "older than 15")
    is_bad(found(190_000)["server_version"], Level.WARNING, "newer than 18")
    is_bad(found(standby=True)["primary"], Level.ERROR, "standby", "target_session_attrs")
    is_bad(found(read_only=True)["primary"], Level.ERROR, "read-only")


async def test_a_read_only_database(database_url: str) -> None:
    execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET default_transaction_read_only = on")
    is_bad((await looked(database_url))["primary"], Level.ERROR, "read-only by default")


@pytest.mark.parametrize("access", ["reader", "worker"])
async def test_what_a_role_with_few_rights_sees(database_url: str, access: str) -> None:
    role = f"test_{uuid.uuid4().hex[:8]}"
    execute(database_url, f"CREATE ROLE {role}")
    try:
        await grant(database_url, SETTINGS, role, access, dry_run=False)
        url = f"{database_url}?options={quote(f'-c role={role}', safe='')}"
        with psycopg.connect(database_url) as holder:
            holder.execute("SELECT count(*) FROM goqueue.job")
            found = await looked(url)
            assert set(found) == CHECKS
            assert [f for f in found.values() if "could not be looked at" in f.text] == []
            is_bad(found["privileges"], Level.WARNING, f"role {role} does not see", "GRANT pg_read_all_stats")
            execute(database_url, found["privileges"].do)
            assert (await looked(url))["privileges"].level is Level.OK
    finally:
        execute(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# -- history ---------------------------------------------------------------------------------------


def _partitions(url: str) -> list[str]:
    rows = execute(
        url,
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'goqueue.job_history'::regclass "
        "AND NOT inhdetachpending ORDER BY 1",
    )
    return [name for (name,) in rows if not name.endswith("forever")]


async def test_partitions_that_are_missing(database_url: str) -> None:
    days = _partitions(database_url)
    execute(database_url, f"DROP TABLE {days[-1]}")
    is_bad((await looked(database_url))["partitions"], Level.WARNING, "needed within days", "goqueue db migrate")
    execute(database_url, f"DROP TABLE {days[0]}")
    is_bad((await looked(database_url))["partitions"], Level.ERROR, "no job can end")


async def test_partitions_that_are_past_or_in_the_way(database_url: str) -> None:
    execute(
        database_url,
        "CREATE TABLE goqueue.job_history_20200101 PARTITION OF goqueue.job_history "
        "FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')",
        "CREATE TABLE goqueue.job_history_rest PARTITION OF goqueue.job_history DEFAULT",
    )
    found = (await looked(database_url))["partitions"]
    is_bad(found, Level.WARNING, "past and not dropped: job_history_20200101", "job_history_rest is a DEFAULT")


async def test_a_partition_that_somebody_has_detached_is_told_and_no_fault(database_url: str) -> None:
    execute(database_url, "CREATE TABLE goqueue.job_history_20200101 (LIKE goqueue.job_history)")
    found = (await looked(database_url))["partitions"]
    assert found.level is Level.OK
    assert "never dropped by us: job_history_20200101" in found.text


async def test_a_detach_that_was_cut_short(database_url: str) -> None:
    name = _partitions(database_url)[-1]
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM goqueue.job_history")
        with pytest.raises(psycopg.errors.QueryCanceled):
            execute(
                database_url,
                "SET statement_timeout = '500ms'",
                f"ALTER TABLE goqueue.job_history DETACH PARTITION {name} CONCURRENTLY",
            )
    found = (await looked(database_url))["partitions"]
    is_bad(found, Level.WARNING, f"cut short: {name.removeprefix('goqueue.')}", "FINALIZE")
    execute(database_url, found.do)
    assert "cut short" not in (await looked(database_url))["partitions"].text


# -- workers ---------------------------------------------------------------------------------------


@asynccontextmanager
async def _running(store: PostgresStore, ttl_s: float = 60) -> AsyncIterator[str]:
    """A worker that runs three jobs; its id."""
    worker_id = await register(store, ttl_s)
    await store.enqueue([job(timeout_s=1.0) for _ in range(3)])
    assert len(await claim(store, worker_id)) == 3
    yield worker_id


def _later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_orphans_that_nobody_sweeps(make_store: MakeStore, database_url: str) -> None:
    async with _running(await make_store()):
        assert (await looked(database_url))["workers"].level is Level.OK
        assert (await looked(database_url, now=_later(62)))["workers"].level is not Level.ERROR, "one sweep may be due"
        found = (await looked(database_url, now=_later(90)))["workers"]
        is_bad(found, Level.ERROR, "1 expired", "3 running jobs", "3 of them of workers that expired")
        execute(database_url, "DELETE FROM goqueue.worker")
        is_bad((await looked(database_url))["workers"], Level.WARNING, "3 of them of workers without a row")


async def test_jobs_and_no_worker(make_store: MakeStore, database_url: str) -> None:
    await (await make_store()).enqueue([job()])
    is_bad((await looked(database_url))["workers"], Level.WARNING, "0 alive", "goqueue worker")


async def test_nobody_leads(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    is_bad((await looked(database_url))["leader"], Level.WARNING, "nobody leads")
    await register(store, ttl_s=1000)
    is_bad((await looked(database_url))["leader"], Level.ERROR, "nobody leads: no sweeps")
    await store.elect("sweep", "somebody", 10)
    assert (await looked(database_url))["leader"].level is Level.OK
    found = (await looked(database_url, now=_later(310)))["leader"]
    is_bad(found, Level.ERROR, "sweep: somebody, lapsed 5 min ago")


async def test_workers_of_another_version(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    await store.extend(Beat(worker=WorkerInfo(id=new_id(), version="0.0.1"), ttl_s=60))
    is_bad((await looked(database_url))["versions"], Level.WARNING, "0.0.1")


async def test_overdue_jobs_and_pauses(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    async with _running(store, ttl_s=1000):
        await store.pause("default", "mail", True)
        found = await looked(database_url)
        assert found["overdue"].level is Level.OK
        assert "default/mail" in found["pauses"].text
        found = await looked(database_url, now=_later(130))
        is_bad(found["overdue"], Level.WARNING, "(noop) runs for 2 min, timeout 1 s")


async def test_queues_without_a_worker(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    await store.enqueue([job(queue="mail", priority=n % 3, group_key=str(n % 4)) for n in range(9)])
    await store.enqueue([job(queue="slow", delay_s=60)])
    unserved = (await looked(database_url, now=_later(600)))["unserved_queues"]
    is_bad(unserved, Level.WARNING, "default/mail: 9 ready, the first for 10 min", "default/slow: 1 ready")
    assert "--queues mail,slow" in unserved.do
    unserved = (await looked(database_url, Limits(due=5)))["unserved_queues"]
    is_bad(unserved, Level.WARNING, "default/mail: at least 5 ready")
    assert "slow" not in unserved.text
    await store.pause("default", "mail", True)
    found = await looked(database_url, now=_later(600))
    is_bad(found["pauses"], Level.WARNING, "default/mail for 10 min, 9 ready, the first for 10 min, and no worker")
    assert "mail" not in found["unserved_queues"].text
    await store.extend(Beat(worker=WorkerInfo(id=new_id(), queues=("mail", "slow")), ttl_s=1000))
    found = await looked(database_url, now=_later(600))
    assert found["unserved_queues"].level is Level.OK
    assert "no worker" not in found["pauses"].text


async def test_kinds_that_workers_lack(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([msgspec.structs.replace(job(group_key=str(n % 2)), kind="resize") for n in range(6)])
    leases = await claim(store, worker_id)
    put_off = Snooze(60, "no task of kind 'resize' in this worker")
    await store.settle([Settlement(lease.ref, lease.fence, put_off) for lease in leases])
    await store.enqueue([job() for _ in range(20)])
    for now in (None, _later(3600)):
        found = (await looked(database_url, Limits(around=20), now=now))["unknown_kinds"]
        is_bad(found, Level.WARNING, "resize in default/default (at least 6; none of its live workers", "--kind resize")
    await store.enqueue([job(queue=f"a{n % 4}", priority=n % 10) for n in range(200)])
    busy = Limits(of_queue=30, sample=150)
    assert (await looked(database_url, busy))["unknown_kinds"].level is Level.WARNING, "no queue hides the others"
    await store.extend(Beat(worker=WorkerInfo(id=new_id(), queues=("default",), kinds=("resize",)), ttl_s=60))
    is_bad((await looked(database_url))["unknown_kinds"], Level.WARNING, "only some of its live workers have it")


async def test_a_database_without_transactions_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PgBouncer's own words; the real one is in tests/acceptance/test_pgbouncer.py."""
    store = PostgresStore(database_url, settings=SETTINGS)
    refused = psycopg.errors.ProtocolViolation("transaction blocks not allowed in statement pooling mode")

    async def refuse(*_: object, **__: object) -> Any:
        from goqueue.store.postgres.errors import translate

        raise translate(refused) from refused

    monkeypatch.setattr(store._database, "run", refuse)
    try:
        with pytest.raises(ConfigurationError, match="pool_mode"):
            await store.open()
    finally:
        monkeypatch.undo()
        await store.close()
