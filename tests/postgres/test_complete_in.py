"""A handler completes its job in its own transaction: the effect and the job are there together, or neither is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
import pytest

from goqueue import Context, GoQueue, RetryPolicy
from goqueue.engine.worker import Worker
from goqueue.model.errors import InvalidInput, LeaseLost
from goqueue.model.job import JobRecord
from goqueue.model.query import CancelJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.memory import MemoryStore
from goqueue.tasks.prepare import prepare
from goqueue.wiring import completer
from tests.postgres import complete_app
from tests.support.callers import KINDS, Caller, Psycopg, Psycopg2, PsycopgAsync, calling
from tests.support.completing import DEADLINE_S, FAILURES, QUICK, Place, a_place

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with a_place(database_url) as here:
        yield here


@pytest.fixture
def app() -> GoQueue:
    return GoQueue(retry=RetryPolicy.fixed(0.01))


async def effect(caller: Caller, ctx: Context[None]) -> None:
    """Begin, and write the effect."""
    await caller.do(caller.begin)
    await caller.do(caller.run, f"INSERT INTO effect VALUES ('{ctx.job_id}', {ctx.attempt})")  # noqa: S608  our own


def result(record: JobRecord) -> object:
    return None if record.result is None else msgspec.json.decode(record.result)


@every_kind
async def test_committed_both_are_there_and_rolled_back_neither(
    kind: type[Caller], place: Place, app: GoQueue, database_url: str
) -> None:
    async with calling(kind, database_url) as caller:

        @app.task
        async def act(ctx: Context[None]) -> str:
            await effect(caller, ctx)
            await caller.complete(ctx, {"done": ctx.attempt})
            await caller.do(caller.rollback if ctx.attempt == 1 else caller.commit)
            return "not looked at"

        async with place.working(app):
            job = await place.enqueue(act.job())
            record = await place.final(job)
    assert (record.state, record.attempt, result(record)) == (JobState.COMPLETED, 2, {"done": 2})
    assert place.effects(job) == [2]
    (error,) = record.errors
    assert error.type.endswith("CompletionRolledBack")
    assert [entry["event"] for entry in place.logs if entry["event"] in FAILURES] == ["retry"]


@every_kind
async def test_a_second_completion_and_a_late_one_are_refused(
    kind: type[Caller], place: Place, app: GoQueue, database_url: str
) -> None:
    kept: list[Context[None]] = []
    ended = asyncio.Event()  # final by its commit, the first goes on with the connection that the second uses, too
    async with calling(kind, database_url) as caller:

        @app.task
        async def act(ctx: Context[None]) -> None:
            kept.append(ctx)
            await effect(caller, ctx)
            await caller.complete(ctx)
            with pytest.raises(LeaseLost, match="before"):
                await caller.complete(ctx)
            await caller.do(caller.commit)
            await effect(caller, ctx)
            with pytest.raises(LeaseLost, match="before"):
                await caller.complete(ctx)
            await caller.do(caller.rollback)
            ended.set()

        @app.task
        async def other(ctx: Context[None]) -> None:
            await caller.do(caller.begin)
            with pytest.raises(LeaseLost, match="ended"):
                await caller.complete(kept[0])
            await caller.do(caller.rollback)

        async with place.working(app):
            job = await place.enqueue(act.job())
            await place.final(job)
            async with asyncio.timeout(DEADLINE_S):
                await ended.wait()
            assert (await place.final(await place.enqueue(other.job()))).state is JobState.COMPLETED
    assert place.effects(job) == [1]
    assert place.failures == set()


@every_kind
async def test_on_a_connection_that_commits_by_itself_it_is_refused(
    kind: type[Caller], place: Place, app: GoQueue, database_url: str
) -> None:
    """Or a job would be completed whose handler fails after it."""
    async with calling(kind, database_url) as caller:
        await caller.do(caller.set_autocommit)

        @app.task(max_attempts=1)
        async def act(ctx: Context[None]) -> None:
            with pytest.raises(InvalidInput, match="begin a transaction"):
                await caller.complete(ctx)
            raise ValueError("mine")

        async with place.working(app):
            record = await place.final(await place.enqueue(act.job()))
    assert (record.state, [error.type for error in record.errors]) == (JobState.DEAD, ["ValueError"])


@pytest.mark.parametrize("kind", [Psycopg, PsycopgAsync, Psycopg2], ids=lambda kind: kind.__name__)
async def test_in_a_transaction_begun_on_one_that_commits_by_itself_it_goes(
    kind: type[Caller], place: Place, app: GoQueue, database_url: str
) -> None:
    async with calling(kind, database_url) as caller:
        await caller.do(caller.set_autocommit)

        @app.task
        async def act(ctx: Context[None]) -> None:
            await caller.do(caller.run, "BEGIN")
            await effect(caller, ctx)
            await caller.complete(ctx)
            await caller.do(caller.run, "COMMIT")

        async with place.working(app):
            job = await place.enqueue(act.job())
            record = await place.final(job)
    assert (record.state, record.attempt, place.effects(job)) == (JobState.COMPLETED, 1, [1])


@every_kind
@pytest.mark.parametrize("stopped", [False, True], ids=["refused", "stopped"])
async def test_with_a_lost_lease_it_is_refused_and_nothing_is_done_twice(
    kind: type[Caller], stopped: bool, place: Place, app: GoQueue, database_url: str
) -> None:
    """``stopped``: it never comes to its completion, since a beat tells the worker before, which stops it."""
    free = asyncio.Lock()  # both attempts use the one connection, and the second may come before the first has ended
    async with calling(kind, database_url) as caller:

        @app.task
        async def act(ctx: Context[None]) -> None:
            async with free:
                await effect(caller, ctx)
                try:
                    if ctx.attempt == 1:
                        with psycopg.connect(database_url) as connection:  # as a sweep would have done it
                            connection.execute(
                                "UPDATE goqueue.job SET state = 0, fence = fence + 1, worker_id = NULL,"
                                " run_at = now() + interval '1 second'"
                            )
                        await asyncio.sleep(DEADLINE_S if stopped else 0)
                    await caller.complete(ctx)
                except BaseException:  # stopped it is by a cancellation: what it did must not stay for the next
                    await caller.do(caller.rollback)
                    raise
                await caller.do(caller.commit)

        async with place.working(app):
            job = await place.enqueue(act.job())
            record = await place.final(job)
    assert (record.state, place.effects(job)) == (JobState.COMPLETED, [2])


async def test_what_happens_after_the_commit_changes_nothing(place: Place, app: GoQueue) -> None:
    """Raise, run out of time, be cancelled, be beaten for: it is completed, and nobody speaks of a failure."""
    done = asyncio.Event()

    async def complete(ctx: Context[None]) -> None:
        async with await psycopg.AsyncConnection.connect(place.url) as conn:
            await conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
            await ctx.complete_in(conn, "kept")
        done.set()

    @app.task
    async def raises(ctx: Context[None]) -> None:
        await complete(ctx)
        raise ValueError("after")

    @app.task(timeout_s=0.5)
    async def late(ctx: Context[None]) -> None:
        await complete(ctx)
        await asyncio.sleep(60)

    @app.task
    async def cancelled(ctx: Context[None]) -> None:
        await complete(ctx)
        await asyncio.sleep(0.5)  # some beats go by, for which this lease has ended
        assert not ctx.cancelled

    async with place.working(app):
        for task in (raises, late, cancelled):
            done.clear()
            job = await place.enqueue(task.job())
            await done.wait()
            await place.store.change(Selection("default", (job.id,)), CancelJobs())
            record = await place.final(job)
            assert (record.state, record.attempt, result(record), record.errors) == (JobState.COMPLETED, 1, "kept", ())
            assert place.effects(job) == [1]
    assert place.failures == set()


async def test_a_worker_that_stops_after_the_commit_neither_loses_nor_repeats_it(place: Place, app: GoQueue) -> None:
    done = asyncio.Event()

    @app.task
    async def act(ctx: Context[None]) -> None:
        async with await psycopg.AsyncConnection.connect(place.url) as conn:
            await conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
            await ctx.complete_in(conn)
        done.set()
        await asyncio.sleep(60)

    async with place.working(app):
        job = await place.enqueue(act.job())
        await done.wait()
    assert (await place.record(job)).state is JobState.COMPLETED
    assert (place.effects(job), place.failures) == ([1], set())


@pytest.mark.parametrize("commit", [True, False])
async def test_a_transaction_that_is_still_open_decides_when_it_ends(place: Place, app: GoQueue, commit: bool) -> None:
    conns: list[psycopg.AsyncConnection[Any]] = []
    returned = asyncio.Event()

    @app.task
    async def act(ctx: Context[None]) -> None:
        if ctx.attempt == 1:
            conns.append(await psycopg.AsyncConnection.connect(place.url))
            await conns[0].execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
            await ctx.complete_in(conns[0])
            returned.set()

    async with place.working(app):
        job = await place.enqueue(act.job())
        await returned.wait()
        await asyncio.sleep(0.3)  # the outcome goes to the store, and meets a row that is locked
        assert (await place.record(job)).state is JobState.RUNNING
        await (conns[0].commit() if commit else conns[0].rollback())
        record = await place.final(job)
        await conns[0].close()
    assert (record.state, record.attempt, len(record.errors)) == (
        (JobState.COMPLETED, 1, 0) if commit else (JobState.COMPLETED, 2, 1)
    )
    assert place.effects(job) == ([1] if commit else [])


async def test_an_error_before_the_commit_is_the_attempts_own(place: Place, app: GoQueue) -> None:
    @app.task(max_attempts=1)
    def act(ctx: Context[None]) -> None:
        with psycopg.connect(place.url) as conn:
            conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
            ctx.complete_in(conn)
            raise ValueError("mine")

    async with place.working(app):
        job = await place.enqueue(act.job())
        record = await place.final(job)
    assert (record.state, [error.type for error in record.errors]) == (JobState.DEAD, ["ValueError"])
    assert place.effects(job) == []


async def test_too_late_for_its_timeout_it_is_refused(place: Place, app: GoQueue) -> None:
    @app.task(timeout_s=0.1, max_attempts=1)
    def act(ctx: Context[None]) -> None:
        while not ctx.wait(1):
            pass
        with psycopg.connect(place.url) as conn:
            conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
            ctx.complete_in(conn)

    async with place.working(app):
        job = await place.enqueue(act.job())
        record = await place.final(job)
    assert (record.state, place.effects(job)) == (JobState.DEAD, [])
    assert "timeout" in record.errors[0].message


async def test_a_connection_that_cannot_be_used_leaves_the_job_as_it_was(place: Place, app: GoQueue) -> None:
    @app.task
    def act(ctx: Context[None]) -> str:
        with pytest.raises(InvalidInput, match="must be a connection"):
            ctx.complete_in("postgresql://")
        return "as ever"

    async with place.working(app):
        record = await place.final(await place.enqueue(act.job()))
    assert (record.state, result(record)) == (JobState.COMPLETED, "as ever")
    assert place.failures == set()


async def test_a_queue_that_keeps_no_history_is_quiet_about_it(place: Place, app: GoQueue) -> None:
    done = asyncio.Event()

    @app.task
    async def act(ctx: Context[None]) -> None:
        async with await psycopg.AsyncConnection.connect(place.url) as conn:
            await conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
            await ctx.complete_in(conn)
        done.set()

    async with place.working(app):
        job = await place.enqueue(act.job().options(queue="no-trace"))
        await done.wait()
    assert await place.store.get("default", [job.id]) == [None]
    assert (place.effects(job), place.failures) == ([1], set())


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("task", [complete_app.plain, complete_app.awaited], ids=["plain", "async"])
async def test_handlers_in_processes_can_too(place: Place, task: Any, commit: bool) -> None:
    async with place.working(complete_app.app, app_ref="tests.postgres.complete_app:app"):
        job = await place.enqueue(task.job(place.url, commit))
        record = await place.final(job)
    attempts = 1 if commit else 2
    assert (record.state, record.attempt, result(record)) == (JobState.COMPLETED, attempts, "in it")
    assert place.effects(job) == [attempts]
    assert place.failures == (set() if commit else {"retry"})


async def test_other_stores_say_that_they_cannot(app: GoQueue) -> None:
    store = MemoryStore()
    seen: list[str] = []

    @app.task
    def act(ctx: Context[None]) -> None:
        with pytest.raises(InvalidInput, match="PostgreSQL") as refused:
            ctx.complete_in(object())
        seen.append(str(refused.value))

    job = prepare(act.job())
    await store.enqueue([job])
    await Worker(app, store, QUICK, completer=completer(store)).run_until_idle()
    assert seen
