"""Types that users rely on, in a project of their own. Checked by mypy and by pyright (`test_types.py`), never run.

An ignore is an assertion too, for both: one that ignores nothing is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, assert_type

from goqueue import (
    AsyncClient,
    AsyncJob,
    Client,
    Context,
    Enqueued,
    GoQueue,
    Job,
    Middleware,
    NewJob,
    RetryPolicy,
)
from goqueue.model.job import JobLog, JobRecord
from goqueue.model.retry import RetryDelays
from goqueue.tasks.task import Task

app = GoQueue()


@dataclass
class State:
    """What a lifespan yields."""

    greeting: str


@app.task
async def async_bare(to: str, subject: str = "") -> int:
    """An async function under ``@app.task``."""
    return len(to + subject)


@app.task(queue="mail", max_attempts=5, timeout_s=30, unique=True, tags=["a"], meta={"team": "x"}, run_in="auto")
async def async_options(to: str) -> str:
    """An async function under ``@app.task(...)``."""
    return to


@app.task
def sync_bare(n: int) -> float:
    """A plain function under ``@app.task``."""
    return n / 2


@app.task(run_in="process")
def sync_options(n: int) -> list[int]:
    """A plain function under ``@app.task(...)``."""
    return [n]


@app.task
async def async_context(ctx: Context[State], to: str) -> str:
    """With a context."""
    assert_type(ctx.state, State)
    assert_type(await ctx.enqueue(async_bare.job(to)), Enqueued)
    return ctx.state.greeting + to


@app.task(kind="ctx")
async def async_context_options(ctx: Context[State], to: str) -> None:
    """With a context and options."""


@app.task
def sync_context(ctx: Context[None], n: int) -> int:
    """A plain function with a context."""
    return n


@app.task(priority=1)
def sync_context_options(ctx: Context[State], n: int) -> dict[str, int]:
    """A plain function with a context and options."""
    return {ctx.state.greeting: n}


def jobs() -> None:
    """``.job`` has the function's parameters and result, without the context."""
    assert_type(async_bare.job("a"), NewJob[int])
    assert_type(async_bare.job(to="a", subject="b"), NewJob[int])
    assert_type(async_options.job(to="a"), NewJob[str])
    assert_type(sync_bare.job(1), NewJob[float])
    assert_type(sync_options.job(n=1), NewJob[list[int]])
    assert_type(async_context.job(to="a"), NewJob[str])
    assert_type(async_context_options.job("a"), NewJob[None])
    assert_type(sync_context.job(n=1), NewJob[int])
    assert_type(sync_context_options.job(n=1), NewJob[dict[str, int]])
    assert_type(async_bare.job("a").options(delay_s=60, priority=1), NewJob[int])


def refused() -> None:
    """Wrong arguments are type errors."""
    async_bare.job()  # type: ignore[call-arg]
    async_bare.job(to=1)  # type: ignore[arg-type]
    async_options.job(to="a", bcc="b")  # type: ignore[call-arg]
    sync_bare.job("1")  # type: ignore[arg-type]
    sync_options.job(1, 2)  # type: ignore[call-arg]
    async_context.job()  # type: ignore[call-arg]
    async_context_options.job(to=b"a")  # type: ignore[arg-type]
    sync_context.job(ctx=None, n=1)  # type: ignore[call-arg]
    sync_context_options.job(n=None)  # type: ignore[arg-type]
    app.task(que="mail")  # type: ignore[call-overload]
    app.task(run_in="thread")  # type: ignore[call-overload]


async def called(ctx: Context[State]) -> None:
    """Calling a task is calling its function, context and all."""
    assert_type(await async_bare("a"), int)
    assert_type(sync_bare(1), float)
    assert_type(await async_context(ctx, "a"), str)
    assert_type(sync_context_options(ctx, n=1), dict[str, int])
    sync_context_options(n=1)  # type: ignore[call-arg]


def listed() -> None:
    """Tasks fit their public types."""
    assert_type(app.tasks, Mapping[str, Task[..., object]])
    by_name: Task[[int], float] = sync_bare
    as_function: Callable[[int], float] = sync_bare
    narrower: NewJob[object] = sync_bare.job(1)
    del by_name, as_function, narrower


def policies() -> None:
    """A job takes numbers or a policy; rules take classes of exceptions, of one kind or several."""
    policy = RetryPolicy.fixed(1, on={ConnectionError: RetryPolicy.fixed(2), ValueError: RetryPolicy.fixed(3)})
    one = {ConnectionError: policy}
    assert_type(RetryPolicy.exponential(on=one).on(KeyError, policy), RetryPolicy)
    assert_type(sync_bare.job(1).options(retry=policy, deadline_s=5, schedule_to_start_s=None), NewJob[float])
    sync_bare.job(1).options(retry=RetryDelays(base_s=1))
    sync_bare.job(1).options(retry=5)  # type: ignore[arg-type]
    policy.on(int, policy)  # type: ignore[arg-type]
    app.task(retry=RetryDelays())  # type: ignore[call-overload]


def with_client(client: Client) -> None:
    """Results keep their types to the end."""
    job = client.enqueue(async_bare.job("a"))
    assert_type(job, Job[int])
    assert_type(job.result(timeout_s=1), int)
    assert_type(client.enqueue_many([sync_bare.job(1)]), list[Job[float]])
    assert_type(client.get("x"), Job[Any])
    client.enqueue(async_bare)  # type: ignore[arg-type]


async def with_async_client(client: AsyncClient) -> None:
    """The same for the async client."""
    job = await client.enqueue(async_context.job("a"))
    assert_type(job, AsyncJob[str])
    assert_type(await job.result(timeout_s=1), str)
    assert_type(await client.enqueue_many(sync_bare.job(n) for n in range(3)), list[AsyncJob[float]])
    async for found in client.iterate(queues=["mail"]):
        assert_type(found, AsyncJob[Any])


# -- what an application shares, and goes around its jobs ------------------------------------------


@asynccontextmanager
async def lifespan() -> AsyncIterator[State]:
    """What it yields is `Context.state`."""
    yield State("Hi")


class Around(Middleware):
    """Both methods, as the documentation has them."""

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        """Around a run."""
        assert_type(ctx.meta, dict[str, str])
        result = yield
        assert_type(result, object)

    def enqueue(self, job: NewJob[Any]) -> Generator[NewJob[Any], Enqueued, None]:
        """Around an enqueue."""
        answer = yield job.options(meta={**job.meta, "trace": "1"})
        assert_type(answer, Enqueued)


class Typed(Middleware):
    """One that knows the state of its application."""

    def run(self, ctx: Context[State]) -> Generator[None, object, None]:
        """Around a run."""
        assert_type(ctx.state.greeting, str)
        yield


class Wrong(Middleware):
    """What does not fit."""

    def run(self, ctx: Context[Any]) -> None:  # type: ignore[override]
        """No generator."""

    async def enqueue(self, job: NewJob[Any]) -> None:  # type: ignore[override]
        """Not async."""


shop = GoQueue(lifespan=lifespan, middleware=[Around(), Typed()])
GoQueue(middleware=[Around])  # type: ignore[list-item]
GoQueue(lifespan=Around())  # type: ignore[arg-type]


# -- a handler's own means -------------------------------------------------------------------------


@shop.task(kind="mail.send", version=2, aliases=["send"])
def said(ctx: Context[State], n: int) -> int:
    """Progress, lines, children."""
    ctx.progress({"n": n})
    ctx.log("began")
    ctx.log("odd", level="warning")
    ctx.log("odd", level="loud")  # type: ignore[arg-type]
    assert_type(ctx.run(ctx.enqueue(sync_bare.job(n))), Enqueued)
    assert_type(ctx.run(ctx.enqueue_many([sync_bare.job(n), async_bare.job("a")])), list[Enqueued])
    return n


@said.upcast(from_version=1)
def lifted(args: dict[str, Any]) -> dict[str, Any]:
    """From version 1 to 2."""
    return args


said.upcast(1)  # type: ignore[call-arg]


def known(record: JobRecord) -> None:
    """What is known of a job."""
    assert_type(record.logs, tuple[JobLog, ...])
    assert_type(record.logs[0].message, str)
    assert_type(shop.runs, Mapping[str, Task[..., object]])


def with_clients(client: Client) -> None:
    """With clients as they are made."""
    with Client(shop) as own:
        assert_type(own, Client)
        assert_type(own.enqueue(said.job(1), conn=object()).result(), int)
        many = own.enqueue_many(sync_options.job(n) for n in range(3))
        assert_type(many[0].result(), list[int])
    job: Job[object] = client.enqueue(said.job(1))  # what has an int has an object
    wrong: Job[str] = client.enqueue(said.job(1))  # type: ignore[arg-type]
    del job, wrong


async def with_async_clients() -> None:
    """The same for the async client."""
    async with AsyncClient(shop) as client:
        assert_type(client, AsyncClient)
        job = await client.enqueue(said.job(1))
        assert_type(await job.result(), int)
        assert_type(job, AsyncJob[int])
        client.enqueue(said.job(1)).result()  # type: ignore[attr-defined]
