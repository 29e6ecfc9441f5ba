"""The sandbox: jobs of an application in a test, on a store in memory with a clock that the test moves."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goqueue import (
    AsyncClient,
    Client,
    Context,
    GoQueue,
    JobFailed,
    LeaseLost,
    OnConflict,
    ResultTimeout,
    RetryPolicy,
    SnoozeJob,
    Unique,
    UniqueConflict,
    new_id,
)
from goqueue.model.state import JobState
from goqueue.settings import WorkerSettings
from goqueue.testing import AsyncSandbox, Ran, Sandbox
from goqueue.testing.hands import RUNS_MAX, TooManyRuns

app = GoQueue()
seen: list[Any] = []
where: ContextVar[str] = ContextVar("where", default="nowhere")


@dataclass
class Mail:
    to: str
    copies: int = 1


@app.task(queue="mail")
async def send(mail: Mail) -> str:
    seen.append(("send", mail.to))
    return f"sent to {mail.to}"


@app.task(retry=RetryPolicy.fixed(60), max_attempts=3)
def fail(times: int, ctx_attempt: int = 0) -> None:
    raise ConnectionError("away")


@app.task(retry=RetryPolicy.fixed(3600), max_attempts=3)
def recover(ctx: Context[None]) -> int:
    seen.append(("recover", ctx.attempt))
    if ctx.attempt < 3:
        raise ConnectionError("away")
    return ctx.attempt


@app.task
def put_off() -> None:
    seen.append("put_off")
    raise SnoozeJob(86_400, "tomorrow")


@app.task
async def parent(ctx: Context[None], children: int) -> int:
    for i in range(children):
        await ctx.enqueue(send.job(Mail(f"child {i}")))
    return children


@app.task(run_in="process")
def thread() -> str:
    return threading.current_thread().name


@app.task
def for_ever(ctx: Context[None]) -> None:
    ctx.run(ctx.enqueue(for_ever.job()))


@app.task(timeout_s=0.05, max_attempts=1)
async def slow() -> None:
    import asyncio

    await asyncio.sleep(60)


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(app) as made:
        yield made


def test_nothing_runs_until_it_is_drained(sandbox: Sandbox) -> None:
    job = sandbox.client.enqueue(send.job(Mail("ada")))
    assert seen == []
    with pytest.raises(ResultTimeout, match=r"drain\(\) or advance"):
        job.result()
    drained = sandbox.drain()
    assert seen == [("send", "ada")]
    assert drained.completed == len(drained) == 1
    assert job.result() == "sent to ada"
    assert not sandbox.drain()


def test_what_was_enqueued_can_be_asserted(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(send.job(Mail("ada", copies=2)).options(tags=["night"], meta={"trace": "1"}, priority=1))
    job = sandbox.assert_enqueued(send, args={"mail": {"to": "ada"}}, queue="mail", tags=["night"], count=1, priority=1)
    assert job.state is JobState.READY
    sandbox.assert_enqueued("send", args={"mail": Mail("ada", 2)}, meta={"trace": "1"}, state="ready")
    sandbox.assert_not_enqueued(send, args={"mail": {"to": "bob"}})
    sandbox.assert_not_enqueued("fail")
    with pytest.raises(AssertionError, match=r"expected a job send args=.*bob.*found 0.*\n.*send .*ada"):
        sandbox.assert_enqueued(send, args={"mail": {"to": "bob"}})
    with pytest.raises(AssertionError, match="expected 2 jobs send, found 1"):
        sandbox.assert_enqueued(send, count=2)
    with pytest.raises(AssertionError, match="expected no job send"):
        sandbox.assert_not_enqueued(send)
    with pytest.raises(AssertionError, match="expected a job send args"):
        sandbox.assert_enqueued(send, args={"mail": {"copies": True}})  # 2 is not True, and 1 would not be either
    sandbox.clear()
    with pytest.raises(AssertionError, match="There are no jobs at all"):
        sandbox.assert_enqueued(send)


def test_what_a_rejected_argument_does_is_what_it_does_in_life(sandbox: Sandbox) -> None:
    from goqueue.model.errors import InvalidArguments

    with pytest.raises(InvalidArguments, match="/args/mail/to"):
        sandbox.client.enqueue(send.job(Mail(to=3)))  # type: ignore[arg-type]  # on purpose
    sandbox.assert_not_enqueued(send)


def test_time_goes_only_when_it_is_moved(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(send.job(Mail("later")).options(delay_s=2 * 86_400))
    began = sandbox.now
    assert not sandbox.advance(days=1, hours=23, minutes=59)
    assert [one.what for one in sandbox.advance(minutes=1)] == ["complete"]
    assert sandbox.now == began + timedelta(days=2)
    record = sandbox.jobs(send)[0]
    assert record.finished_at == began + timedelta(days=2)
    with pytest.raises(ValueError, match="goes forward"):
        sandbox.advance(seconds=-1)


def test_retries_run_at_their_own_instants(sandbox: Sandbox) -> None:
    began = sandbox.now
    job = sandbox.client.enqueue(recover.job())
    drained = sandbox.advance(days=3)
    assert [(one.what, one.attempt) for one in drained] == [("retry", 1), ("retry", 2), ("complete", 3)]
    assert [str(error) for error in drained.errors] == ["away", "away"]
    assert job.result() == 3
    record = job.record()
    assert [error.at - began for error in record.errors] == [timedelta(0), timedelta(seconds=3600)]
    assert record.finished_at == began + timedelta(seconds=7200)


def test_a_job_that_has_used_up_its_attempts_is_dead(sandbox: Sandbox) -> None:
    job = sandbox.client.enqueue(fail.job(1))
    assert [one.what for one in sandbox.advance(hours=1)] == ["retry", "retry", "dead"]
    with pytest.raises(JobFailed, match="away"):
        job.result()


def test_a_job_that_is_put_off_comes_again_each_day(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(put_off.job())
    assert sandbox.advance(days=3).count("snooze") == 4
    assert sandbox.jobs("put_off")[0].attempt == 0


def test_jobs_that_a_job_enqueues_run_as_well(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(parent.job(3))
    assert sandbox.drain().completed == 4
    assert seen == [("send", f"child {i}") for i in range(3)]


def test_a_job_that_enqueues_itself_for_ever_is_told_of(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.testing.hands.RUNS_MAX", 50)
    assert RUNS_MAX == 10_000
    sandbox.client.enqueue(for_ever.job())
    with pytest.raises(TooManyRuns, match="for_ever"):
        sandbox.drain()


def test_priority_comes_first_then_time(sandbox: Sandbox) -> None:
    for to, priority in (("b", 5), ("c", 9), ("a", 0)):
        sandbox.client.enqueue(send.job(Mail(to)).options(priority=priority))
    sandbox.drain()
    assert [to for _, to in seen] == ["a", "b", "c"]


def test_one_job_can_be_performed(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(send.job(Mail("waits")))
    assert sandbox.perform(send.job(Mail("now"))) == "sent to now"
    assert seen == [("send", "now")]
    with pytest.raises(ConnectionError, match="away"):
        sandbox.perform(fail.job(1))


def test_plain_handlers_run_on_the_tests_own_thread(sandbox: Sandbox) -> None:
    assert sandbox.perform(thread.job()) == threading.current_thread().name


def test_a_time_limit_holds(sandbox: Sandbox) -> None:
    job = sandbox.client.enqueue(slow.job())
    assert [one.what for one in sandbox.drain()] == ["dead"]
    with pytest.raises(JobFailed, match="longer than its timeout"):
        job.result()


def test_a_handler_that_overran_its_time_does_not_end_the_sandbox() -> None:
    stubborn = GoQueue()

    @stubborn.task(timeout_s=0.05, max_attempts=1)
    def slow() -> None:
        time.sleep(0.4)  # and never looks whether it shall stop

    @stubborn.task
    def quick() -> int:
        return 1

    settings = WorkerSettings(cancel_grace_s=0.1)
    with Sandbox(stubborn, worker=settings) as own:
        own.client.enqueue(slow.job())
        job = own.client.enqueue(quick.job())
        assert [one.what for one in own.drain()] == ["dead", "complete"]
        assert job.result() == 1


def test_jobs_can_run_as_they_are_enqueued(sandbox: Sandbox) -> None:
    with sandbox.inline():
        job = sandbox.client.enqueue(send.job(Mail("ada")))
        assert seen == [("send", "ada")]
        assert job.result() == "sent to ada"
        later = sandbox.client.enqueue(send.job(Mail("later")).options(delay_s=60))
        assert later.state() is JobState.SCHEDULED
        with pytest.raises(ConnectionError, match="away"):
            sandbox.client.enqueue(fail.job(1))
    sandbox.client.enqueue(send.job(Mail("bob")))
    assert seen == [("send", "ada")]


def test_a_client_that_others_hold_can_be_adopted(sandbox: Sandbox) -> None:
    held = Client(app, "postgresql://nobody@127.0.0.1:1/nothing")
    with sandbox.adopt(held):
        job = held.enqueue(send.job(Mail("ada")))
        with pytest.raises(ResultTimeout):
            job.result()
        assert sandbox.drain().completed == 1
        assert job.result() == "sent to ada"
        with sandbox.inline():
            assert held.enqueue(send.job(Mail("bob"))).result() == "sent to bob"
    sandbox.assert_enqueued(send, count=2)
    assert (type(held), held._store) == (Client, None)
    held.close()
    with pytest.raises(TypeError, match="not a str"), sandbox.adopt("client"):  # type: ignore[arg-type]  # on purpose
        pass


async def test_an_async_client_that_others_hold_can_be_adopted() -> None:
    held = AsyncClient(app, "postgresql://nobody@127.0.0.1:1/nothing")
    async with AsyncSandbox(app) as sandbox:
        with sandbox.adopt(held):
            job = await held.enqueue(send.job(Mail("ada")))
            await sandbox.drain()
            assert await job.result() == "sent to ada"
    assert type(held) is AsyncClient
    await held.close()


def test_a_connection_of_the_tests_own_stores_at_once(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(send.job(Mail("ada")), conn=object())
    sandbox.assert_enqueued(send, count=1)


def test_the_result_of_an_attempt_that_lost_its_lease_does_not_count(sandbox: Sandbox) -> None:
    sandbox.lose_lease(parent)
    job = sandbox.client.enqueue(parent.job(1))
    (zombie,) = sandbox.drain()
    assert zombie.what == "lost"
    assert isinstance(zombie.error, LeaseLost), "it may enqueue nothing"
    sandbox.assert_not_enqueued(send)
    assert job.state() is JobState.RETRYING
    assert [one.what for one in sandbox.advance(minutes=10)] == ["complete", "complete"]
    assert job.result() == 1
    assert job.record().attempt == 2


@pytest.mark.parametrize("before", [False, True])
def test_a_crash_comes_after_the_work_or_before_it(sandbox: Sandbox, before: bool) -> None:
    sandbox.crash("send", before=before)
    job = sandbox.client.enqueue(send.job(Mail("ada")))
    assert [one.what for one in sandbox.drain()] == ["crash"]
    assert len(seen) == (0 if before else 1)
    assert job.record().crashes == 1
    assert sandbox.advance(minutes=10).completed == 1
    assert len(seen) == (1 if before else 2), "what is not idempotent is done twice: that is what this is for"


def test_three_crashes_are_the_end(sandbox: Sandbox) -> None:
    sandbox.crash(times=3)
    job = sandbox.client.enqueue(send.job(Mail("ada")))
    assert sandbox.advance(hours=1).count("crash") == 3
    record = job.record()
    assert (record.state, record.reason) == (JobState.DEAD, "crashed")
    with pytest.raises(ValueError, match="at least 1"):
        sandbox.crash(times=0)


def test_a_deadline_comes_when_the_clock_says_so(sandbox: Sandbox) -> None:
    job = sandbox.client.enqueue(put_off.job().options(deadline_s=3 * 86_400 - 1))
    assert sandbox.advance(days=4).count("snooze") == 3
    record = job.record()
    assert (record.state, record.reason) == (JobState.DEAD, "deadline")


def test_jobs_of_other_applications_wait(sandbox: Sandbox) -> None:
    other = GoQueue()

    @other.task
    def foreign() -> None: ...

    sandbox.client.enqueue(foreign.job())
    assert not sandbox.advance(days=1)
    assert sandbox.assert_enqueued("foreign").attempt == 0


def test_where_the_clock_stands_at_first_can_be_said() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    with Sandbox(app, now=at) as sandbox:
        assert sandbox.client.enqueue(send.job(Mail("ada"))).record().created_at == at


def test_the_lifespan_is_entered_once_and_left() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        seen.append("enter")
        yield "state"
        seen.append("leave")

    living = GoQueue(lifespan=lifespan)

    @living.task
    async def look(ctx: Context[str]) -> str:
        return ctx.state

    with Sandbox(living) as sandbox:
        assert seen == []
        assert [sandbox.perform(look.job()) for _ in range(2)] == ["state", "state"]
        assert seen == ["enter"]
    assert seen == ["enter", "leave"]


def test_a_lifespan_that_fails_is_an_error_of_the_test() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if not seen:
            raise ConnectionError("no pool")
        yield

    living = GoQueue(lifespan=lifespan)

    @living.task
    def look() -> None: ...

    with Sandbox(living) as sandbox:
        sandbox.client.enqueue(look.job())
        with pytest.raises(ConnectionError, match="no pool"):
            sandbox.drain()


async def test_under_a_loop_there_is_another() -> None:
    with Sandbox(app) as sandbox, pytest.raises(RuntimeError, match="AsyncSandbox"):
        sandbox.drain()


async def test_async_tests_run_on_their_own_loop() -> None:
    import asyncio

    looping = GoQueue()

    @looping.task
    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    async with AsyncSandbox(looping) as sandbox:
        job = await sandbox.async_client.enqueue(loop_id.job().options(delay_s=60))
        assert not await sandbox.drain()
        assert (await sandbox.advance(minutes=1)).completed == 1
        assert await job.result() == id(asyncio.get_running_loop())
        assert await sandbox.perform(loop_id.job()) == id(asyncio.get_running_loop())


async def test_async_inline() -> None:
    async with AsyncSandbox(app) as sandbox:
        with sandbox.inline():
            job = await sandbox.async_client.enqueue(parent.job(2))
            assert await job.result() == 2
            assert len(seen) == 2
            with pytest.raises(ConnectionError, match="away"):
                await sandbox.async_client.enqueue(fail.job(1))
            many = await sandbox.async_client.enqueue_many([send.job(Mail(str(i))) for i in range(3)])
            assert [await one.result() for one in many] == [f"sent to {i}" for i in range(3)]
        sandbox.assert_enqueued(send, count=5)


def test_what_has_run_reads_well(sandbox: Sandbox) -> None:
    sandbox.client.enqueue(send.job(Mail("ada")))
    sandbox.client.enqueue(fail.job(1))
    drained = sandbox.drain()
    assert repr(drained) == "<Drained: 1 complete, 1 retry>"
    failed = next(one for one in drained if one.failed)
    assert isinstance(failed, Ran)
    assert repr(failed).endswith("attempt 1: retry ConnectionError('away')>")


def test_a_wait_of_no_time_still_looks(sandbox: Sandbox) -> None:
    job = sandbox.client.enqueue(send.job(Mail("ada")))
    sandbox.drain()
    assert job.result(timeout_s=0) == "sent to ada"
    assert sandbox.client.wait_all([job], timeout_s=0) == ["sent to ada"]


def test_a_run_whose_jobs_replace_each_other_can_be_resumed(sandbox: Sandbox) -> None:
    unique = Unique(key="same", on_conflict=OnConflict.REPLACE)
    jobs = [send.job(Mail(to)).options(unique=unique) for to in ("ada", "bob")]
    run_id = new_id()
    for _ in range(2):
        sandbox.client.enqueue_many(jobs, run_id=run_id)
    sandbox.assert_enqueued(send, count=1, args={"mail": {"to": "bob"}})


def test_a_conflict_by_its_name_is_one(sandbox: Sandbox) -> None:
    unique: Any = Unique(key="same", on_conflict="reject")  # type: ignore[arg-type]  # as many will write it
    sandbox.client.enqueue(send.job(Mail("ada")).options(unique=unique))
    with pytest.raises(UniqueConflict):
        sandbox.client.enqueue(send.job(Mail("bob")).options(unique=unique))
    sandbox.assert_enqueued(send, count=1, args={"mail": {"to": "ada"}})


def test_the_version_of_arguments_is_the_tasks(sandbox: Sandbox) -> None:
    newer = GoQueue()

    @newer.task(version=3)
    def add(a: int) -> int:
        return a

    assert add.job(1).options(meta={"goqueue.version": "1", "trace": "x"}).meta == {
        "goqueue.version": "3",
        "trace": "x",
    }
