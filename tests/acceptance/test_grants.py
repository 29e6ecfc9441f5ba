"""`goqueue db grant`: each kind of role can do its work, on a real database, and nothing beyond."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from goqueue.model.admin import Duty
from goqueue.model.errors import InvalidInput, PermissionDenied, SchemaMissing
from goqueue.model.job import DEFAULT_TENANT, NewJob, OnConflict, Unique
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Answer, Complete, Settlement
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, Filter, Query, RetryJobs, Selection
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres.grants import RIGHTS, grant
from goqueue.tasks.prepare import prepare

pytestmark = pytest.mark.postgres

SETTINGS = StoreSettings()
KEY = Unique(key="k")


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """A role without any right, gone afterwards. Its name needs quoting."""
    name = f'test "role" {uuid.uuid4().hex[:8]}'
    yield from _role(database_url, name)


def _role(url: str, name: str) -> Iterator[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@asynccontextmanager
async def store_as(url: str, role: str) -> AsyncIterator[PostgresStore]:
    """A store all of whose sessions act as ``role``."""
    escaped = role.replace("\\", "\\\\").replace(" ", "\\ ")
    store = PostgresStore(f"{url}?options={quote(f'-c role={escaped}', safe='')}", settings=SETTINGS)
    try:
        yield store
    finally:
        await store.close()


def new(**options: Any) -> NewJob[Any]:
    return prepare(NewJob(kind="k", **options))


def ids(*jobs: NewJob[Any]) -> Selection:
    return Selection(DEFAULT_TENANT, tuple(job.id for job in jobs))


def denied(url: str, role: str, statement: str) -> bool:
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
    return False


async def test_without_a_grant_there_is_nothing(database_url: str, role: str) -> None:
    async with store_as(database_url, role) as store:
        with pytest.raises(PermissionDenied, match="goqueue db grant"):
            await store.open()


async def test_a_worker_can_do_all_the_work(database_url: str, role: str) -> None:
    await grant(database_url, SETTINGS, role, "worker", dry_run=False)
    async with store_as(database_url, role) as store:
        await store.open()
        assert await store.listen()
        jobs = [new(), new(unique=KEY), new(), new(), new()]
        await store.enqueue(jobs)
        await store.enqueue([new(unique=Unique(key="k", on_conflict=OnConflict.REPLACE))])
        info = WorkerInfo(id=str(uuid.uuid4()), queues=("default",))
        await store.extend(Beat(worker=info, ttl_s=30))
        claimed = await store.claim(Want(worker_id=info.id, queues=("default",), total=2))
        lease, other = claimed.leases
        assert (await store.enqueue_by([new()], lease.ref, lease.fence))[0].ref.queue == "default"
        answers = await store.settle([Settlement(lease.ref, lease.fence, Complete(b"1"))])
        assert answers == [Answer.APPLIED]
        for change in (CancelJobs(), RetryJobs(), DeleteJobs()):
            changed = await store.change(ids(jobs[4]), change)
            assert changed[0].status is ChangeStatus.CHANGED, change
        await store.extend(Beat(worker=info, ttl_s=0))
        assert (await store.sweep(Duty.ORPHANS, 10)).count == 1, other
        for duty in (Duty.ORPHANS_FULL, Duty.WORKERS):
            await store.sweep(duty, 10)
        assert await store.elect("duties", "me", 10) is not None
        assert await store.elect("duties", "me", 0) is None
        record = await store.write("r", b"1", 0, 10)
        assert record is not None
        assert await store.write("r", b"2", record.version) is not None
        await store.pause(DEFAULT_TENANT, "default", True)
        assert await store.paused(DEFAULT_TENANT) == ["default"]
        await store.pause(DEFAULT_TENANT, "default", False)
        await store.workers(DEFAULT_TENANT)
        assert (await store.find(Query())).jobs
    for statement in (
        "CREATE TABLE goqueue.mine (x int)",
        "DROP TABLE goqueue.job",
        "ALTER TABLE goqueue.job ADD COLUMN mine int",
        "TRUNCATE goqueue.job",
        "DELETE FROM goqueue.schema_migration",
        "CREATE SCHEMA mine",
    ):
        assert denied(database_url, role, statement), statement


async def test_an_enqueuer_can_enqueue_and_look(database_url: str, role: str) -> None:
    await grant(database_url, SETTINGS, role, "enqueuer", dry_run=False)
    job, keyed = new(), new(unique=KEY)
    async with store_as(database_url, role) as store:
        await store.open()
        await store.enqueue([job, keyed])
        await store.enqueue([job, keyed], retry=True)
        await store.enqueue([new(unique=KEY), new(unique=Unique(key="k", on_conflict=OnConflict.REPLACE))])
        assert None not in await store.get(DEFAULT_TENANT, [job.id, keyed.id])
        assert len((await store.find(Query())).jobs) == 2
        assert await store.count(Filter())
        # A blind retry of a job that has run meanwhile: what it inserts is taken back.
        async with _as_owner(database_url) as owner:
            info = WorkerInfo(id=str(uuid.uuid4()), queues=("default",))
            await owner.extend(Beat(worker=info, ttl_s=30))
            claimed = await owner.claim(Want(worker_id=info.id, queues=("default",), total=2))
            await owner.settle([Settlement(lease.ref, lease.fence, Complete()) for lease in claimed.leases])
        await store.enqueue([job, keyed], retry=True)
        assert await store.count(Filter()) == []
        waiting = new()
        await store.enqueue([waiting])
        with pytest.raises(PermissionDenied):
            await store.extend(Beat(worker=info, ttl_s=30))
        with pytest.raises(PermissionDenied):
            await store.claim(Want(worker_id=info.id, queues=("default",), total=1))
        with pytest.raises(PermissionDenied):
            await store.change(ids(waiting), CancelJobs())
        with pytest.raises(PermissionDenied):
            await store.read("r")
        with pytest.raises(PermissionDenied):
            await store.elect("duties", "me", 10)
    for statement in (
        "UPDATE goqueue.job SET state = 3",
        "UPDATE goqueue.job SET fence = 0",
        "UPDATE goqueue.job_history SET result = NULL",
        "DELETE FROM goqueue.job_history",
        "SELECT * FROM goqueue.record",
        "INSERT INTO goqueue.queue_pause VALUES ('default', 'default', now())",
        "DELETE FROM goqueue.worker",
    ):
        assert denied(database_url, role, statement), statement


async def test_a_reader_can_only_look(database_url: str, role: str) -> None:
    await grant(database_url, SETTINGS, role, "reader", dry_run=False)
    job = new()
    async with _as_owner(database_url) as owner:
        await owner.enqueue([job])
    async with store_as(database_url, role) as store:
        await store.open()
        assert None not in await store.get(DEFAULT_TENANT, [job.id])
        assert (await store.find(Query())).jobs
        assert await store.count(Filter())
        assert await store.workers(DEFAULT_TENANT) == []
        assert await store.paused(DEFAULT_TENANT) == []
        with pytest.raises(PermissionDenied):
            await store.enqueue([new()])
        with pytest.raises(PermissionDenied):
            await store.change(ids(job), DeleteJobs())
    for table in RIGHTS["reader"]:
        assert denied(database_url, role, "TRUNCATE goqueue." + table), table
    assert denied(database_url, role, "SELECT * FROM goqueue.record")


async def test_an_owner_can_make_the_schema(empty_database_url: str) -> None:
    for role in _role(empty_database_url, f"test_owner_{uuid.uuid4().hex[:8]}"):
        with pytest.raises(SchemaMissing):
            await grant(empty_database_url, SETTINGS, role, "worker", dry_run=False)
        await grant(empty_database_url, SETTINGS, role, "owner", dry_run=False)
        async with store_as(empty_database_url, role) as store:
            status = await store.migrate()
            assert status.current == status.target


async def test_an_owner_takes_over_a_schema(database_url: str, role: str) -> None:
    assert denied(database_url, role, "ALTER TABLE goqueue.job ADD COLUMN mine int")
    await grant(database_url, SETTINGS, role, "owner", dry_run=False)
    async with store_as(database_url, role) as store:
        assert (await store.migrate()).pending == ()
        await store.open()
        await store.sweep(Duty.HISTORY, 100)
        await store.enqueue([new()])
    assert not denied(database_url, role, "ALTER TABLE goqueue.job ADD COLUMN mine int")


async def test_what_is_shown_is_what_would_be_done(database_url: str, role: str) -> None:
    shown = await grant(database_url, SETTINGS, role, "reader", dry_run=True)
    assert denied(database_url, role, "SELECT 1 FROM goqueue.job")
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in shown:
            connection.execute(statement.encode())
    assert not denied(database_url, role, "SELECT 1 FROM goqueue.job")
    assert shown == await grant(database_url, SETTINGS, role, "reader", dry_run=False), "again does no harm"


async def test_who_may_not_grant_is_told(database_url: str, role: str) -> None:
    with pytest.raises(InvalidInput, match="CREATE ROLE"):
        await grant(database_url, SETTINGS, "nobody_of_that_name", "reader", dry_run=False)
    await grant(database_url, SETTINGS, role, "reader", dry_run=False)
    escaped = role.replace(" ", "\\ ")
    url = f"{database_url}?options={quote(f'-c role={escaped}', safe='')}"
    for access in ("owner", "reader"):  # what it has it may not pass on, and PostgreSQL would only warn
        with pytest.raises(PermissionDenied, match="owner or a superuser"):
            await grant(url, SETTINGS, role, access, dry_run=False)


@asynccontextmanager
async def _as_owner(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, settings=SETTINGS)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
