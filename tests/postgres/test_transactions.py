"""A job that is enqueued on a caller's own connection is part of the caller's transaction, whatever the connection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from goqueue import JobState, OnConflict, RetryPolicy, Unique
from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.model.errors import InvalidInput, SchemaMissing, SerializationConflict, UniqueConflict
from goqueue.model.job import NewJob
from tests.support.callers import KINDS, Caller, calling

JOB: NewJob[Any] = NewJob(kind="mail", args='{"to":"ada@example.com","é":[1,null]}'.encode())
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def stored(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id::text, kind, args::text FROM goqueue.job ORDER BY id").fetchall()


def idle_worker(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO goqueue.worker VALUES (gen_random_uuid(), 'default', now(), now(), now() + interval '1 hour',"
            " 1, 1, 0, true, false, 'w', 'h', '0', '{default}', '{mail}')"
        )


@every_kind
async def test_it_exists_when_the_caller_commits_and_not_before(kind: type[Caller], database_url: str) -> None:
    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        ids = await caller.enqueue([JOB, JOB.options(delay_s=60)])
        assert stored(database_url) == []
        await caller.do(caller.commit)
    assert stored(database_url) == [(id, "mail", JOB.args.decode()) for id in ids]


@every_kind
async def test_rolled_back_means_never_seen_and_nobody_woken(
    kind: type[Caller], postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    idle_worker(database_url)
    # Past a pooler, if this run has one: notifications do not come through it.
    direct_url = postgres_server.url_for(str(conninfo_to_dict(database_url)["dbname"]))
    async with (
        await psycopg.AsyncConnection.connect(direct_url, autocommit=True) as listener,
        calling(kind, database_url) as caller,
    ):
        await listener.execute("LISTEN goqueue")
        await caller.do(caller.begin)
        await caller.enqueue([JOB.options(unique="k")])
        await caller.do(caller.rollback)
        await caller.do(caller.begin)
        await caller.enqueue([JOB.options(queue="other")])
        await caller.do(caller.commit)
        await caller.do(caller.begin)
        (id,) = await caller.enqueue([JOB.options(unique="k")])  # the key of what was rolled back is free
        await caller.do(caller.commit)
        # Of all these only the last has woken anybody: notifications come in the order of the commits.
        heard = [n.payload async for n in listener.notifies(timeout=10, stop_after=1)]
        heard += [n.payload async for n in listener.notifies(timeout=0.1)]
    assert heard == ["default/default"]
    assert id in [row[0] for row in stored(database_url)]
    assert len(stored(database_url)) == 2


@every_kind
async def test_what_the_caller_writes_and_its_job_are_one(kind: type[Caller], database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE effect (n int)")
    async with calling(kind, database_url) as caller:
        for keep in (True, False):
            await caller.do(caller.begin)
            await caller.do(caller.run, "INSERT INTO effect VALUES (1)")
            await caller.enqueue([JOB])
            await caller.do(caller.commit if keep else caller.rollback)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM effect").fetchone() == (1,)
    assert len(stored(database_url)) == 1


@every_kind
async def test_a_failed_transaction_is_told_and_left_to_its_owner(kind: type[Caller], database_url: str) -> None:
    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        with pytest.raises(Exception, match="division"):
            await caller.do(caller.run, "SELECT 1 / 0")
        with pytest.raises(InvalidInput, match="roll it back"):
            await caller.enqueue([JOB])
        await caller.do(caller.rollback)
        await caller.do(caller.begin)
        await caller.enqueue([JOB])
        await caller.do(caller.commit)
    assert len(stored(database_url)) == 1


@every_kind
async def test_bad_input_leaves_the_transaction_as_it_was(kind: type[Caller], database_url: str) -> None:
    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        with pytest.raises(InvalidInput, match="priority"):
            await caller.enqueue([JOB, JOB.options(priority=99)])
        await caller.enqueue([JOB])
        await caller.do(caller.commit)
    assert len(stored(database_url)) == 1


@every_kind
async def test_the_other_client_says_which_to_use(kind: type[Caller], database_url: str) -> None:
    async with calling(kind, database_url) as caller:
        with pytest.raises(InvalidInput, match=r"goqueue\.Client" if not kind.is_async else r"goqueue\.AsyncClient"):
            await caller.wrong_client(JOB)


@every_kind
async def test_an_unmigrated_database_is_told(kind: type[Caller], empty_database_url: str) -> None:
    async with calling(kind, empty_database_url) as caller:
        await caller.do(caller.begin)
        with pytest.raises(SchemaMissing, match="goqueue db migrate"):
            await caller.enqueue([JOB])
        await caller.do(caller.rollback)


@every_kind
async def test_every_field_of_a_job_arrives(kind: type[Caller], database_url: str) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    full = JOB.options(
        run_at=at,
        priority=1,
        queue="q",
        tags=["a", 'b"\\'],
        meta={"trace": "ü"},
        timeout_s=1.5,
        schedule_to_start_s=60,
        deadline_s=90_000,
        retry=RetryPolicy.fixed(3),
        max_attempts=7,
        unique=Unique(key="k", final_states=(JobState.COMPLETED,), window_s=9),
    )
    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        await caller.enqueue([full])
        await caller.do(caller.commit)
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT run_at, priority, queue, tags, meta, timeout_s, schedule_to_start_s,"
            " extract(epoch FROM deadline_at - created_at)::float8, retry ->> 'delays_s', max_attempts, unique_key,"
            " key_window_s, flags, expire_at - run_at FROM goqueue.job"
        ).fetchone()
    expected = (at, 1, "q", ["a", 'b"\\'], {"trace": "ü"}, 1.5, 60, 90_000, "[3]", 7, "k", 9, 73, timedelta(seconds=60))
    assert row is not None
    assert (*row[:8], row[8].replace(".0", ""), *row[9:]) == expected


@every_kind
async def test_a_rejected_job_names_the_holder_and_the_transaction_goes_on(
    kind: type[Caller], database_url: str
) -> None:
    rejecting = JOB.options(unique=Unique(key="k", on_conflict=OnConflict.REJECT))
    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        (first,) = await caller.enqueue([JOB.options(unique="k")])
        assert await caller.enqueue([JOB.options(unique="k")]) == [first]
        with pytest.raises(Exception, match=first) as rejected:
            await caller.enqueue([rejecting])
        assert isinstance(getattr(rejected.value, "conflicts", {0: rejected.value})[0], UniqueConflict)
        await caller.do(caller.commit)
    assert [row[0] for row in stored(database_url)] == [first]


@every_kind
async def test_in_repeatable_read_an_unseen_holder_is_a_serialization_conflict(
    kind: type[Caller], database_url: str
) -> None:
    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        await caller.do(caller.run, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await caller.do(caller.run, "SELECT 1")
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT goqueue.enqueue_v1('mail', \"unique\" => '\"k\"')")
        with pytest.raises(SerializationConflict):
            await caller.enqueue([JOB.options(unique="k")])
        await caller.do(caller.rollback)


@every_kind
async def test_nothing_of_ours_stays_on_the_connection(kind: type[Caller], database_url: str) -> None:
    settings = "SELECT md5(string_agg(name || setting, ',' ORDER BY name)) FROM pg_settings"
    prepared = "SELECT count(*)::text FROM pg_prepared_statements WHERE statement LIKE '%enqueue_many_v1%'"
    if "SqlAlchemy" in {cls.__name__.strip("_").removesuffix("Async") for cls in kind.__mro__}:
        prepared = "SELECT '0'"  # SQLAlchemy keeps what goes through it, whoever asks: its own settings say how many

    async with calling(kind, database_url) as caller:
        await caller.do(caller.begin)
        await caller.do(caller.run, "DO $$ BEGIN END $$")  # PL/pgSQL, once loaded, has settings of its own
        await caller.do(caller.run, f"CREATE TEMP TABLE looked AS {settings}")
        for _ in range(8):
            await caller.enqueue([JOB, JOB.options(unique="k")])
        await caller.do(
            caller.run,
            f"DO $$ BEGIN IF (SELECT md5 FROM looked) <> ({settings}) OR ({prepared}) <> '0'"  # noqa: S608  our own
            " THEN RAISE 'something was left'; END IF; END $$",
        )
        await caller.do(caller.commit)


async def test_without_a_transaction_it_is_stored_at_once_all_or_nothing(database_url: str) -> None:
    import asyncpg

    from goqueue import AsyncClient

    connection = await asyncpg.connect(database_url)
    async with AsyncClient(url=database_url) as client:
        await client.enqueue_many([JOB] * 3, conn=connection)
        assert len(stored(database_url)) == 3
        with pytest.raises(asyncpg.PostgresError, match="priority"):
            await connection.execute(
                """SELECT goqueue.enqueue_many_v1('[{"kind": "a"}, {"kind": "b", "priority": 10}]')"""
            )
    await connection.close()
    assert len(stored(database_url)) == 3


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if not k.__name__.startswith(("Sql", "Session", "Scoped", "Django"))]
)
async def test_a_closed_connection_is_told(kind: type[Caller], database_url: str) -> None:
    async with calling(kind, database_url) as caller:
        if kind.__name__ != "AsyncpgPool":
            await caller.do(caller.close)
            with pytest.raises(InvalidInput, match="closed"):
                await caller.enqueue([JOB])


async def test_what_makes_connections_is_none(database_url: str) -> None:
    import sqlalchemy
    from psycopg_pool import AsyncConnectionPool

    from goqueue import Client

    engine = sqlalchemy.create_engine("postgresql+psycopg://")
    with Client(url=database_url) as client:
        for wrong in (engine, AsyncConnectionPool(open=False)):
            with pytest.raises(InvalidInput, match="makes connections"):
                client.enqueue(JOB, conn=wrong)
        with pytest.raises(InvalidInput, match="must be a connection of"):
            client.enqueue(JOB, conn="postgresql://")
        with (
            sqlalchemy.create_engine("sqlite://").connect() as sqlite,
            pytest.raises(InvalidInput, match="jobs are in PostgreSQL"),
        ):
            client.enqueue(JOB, conn=sqlite)


async def test_an_encoding_that_cannot_hold_jobs_is_told(database_url: str) -> None:
    import psycopg2

    from goqueue import Client

    with Client(url=database_url) as client:
        connection = psycopg2.connect(database_url)
        connection.set_client_encoding("LATIN1")
        with pytest.raises(InvalidInput, match="UTF8"):
            client.enqueue(JOB, conn=connection)
        connection.close()
