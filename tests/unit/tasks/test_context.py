"""What a handler sees of its job."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from goqueue.model import limits
from goqueue.model.errors import InvalidInput, InvalidJob, UniqueConflict
from goqueue.model.job import JobRef, LogLevel, NewJob
from goqueue.model.lease import Lease
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.tasks.context import Context
from goqueue.tasks.middleware import Middleware

T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Port:
    """Records what contexts ask of a worker."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.lines: list[tuple[str, str]] = []
        self.jobs: list[NewJob[object]] = []
        self.status = EnqueueStatus.INSERTED
        self.is_cancelled = False
        self.layers: tuple[Middleware, ...] = ()

    def cancelled(self, lease: Lease) -> bool:
        return self.is_cancelled

    def progress(self, lease: Lease, value: bytes) -> None:
        self.values.append(value)

    def log(self, lease: Lease, level: LogLevel, message: str) -> None:
        self.lines.append((level, message))

    async def enqueue(self, lease: Lease, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
        self.jobs += jobs
        return [Enqueued(self.status, job.ref) for job in jobs]

    def complete_in(self, lease: Lease, conn: object, result: bytes | None) -> Awaitable[None]:
        raise InvalidInput("no transactions here")

    def run(self, work: Coroutine[object, object, T]) -> T:
        try:
            work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("suspended")


def lease(attempt: int = 1, meta: bytes | None = None) -> Lease:
    return Lease(
        id="0199a1b2-0000-7000-8000-000000000001",
        tenant="acme",
        queue="mail",
        kind="send",
        args=b"{}",
        fence=attempt,
        attempt=attempt,
        max_attempts=5,
        crashes=0,
        priority=5,
        timeout_s=None,
        created_at=NOW,
        run_at=NOW,
        meta=meta,
        tags=("a",),
    )


def test_a_context_tells_what_the_lease_says() -> None:
    ctx = Context(lease(2, b'{"trace": "x"}'), Port(), state="state")
    assert (ctx.kind, ctx.queue, ctx.tenant, ctx.attempt, ctx.max_attempts) == ("send", "mail", "acme", 2, 5)
    assert (ctx.tags, ctx.meta, ctx.created_at, ctx.run_at, ctx.state) == (("a",), {"trace": "x"}, NOW, NOW, "state")
    assert Context(lease(), Port(), None).meta == {}


def test_the_idempotency_token_is_the_same_at_every_attempt() -> None:
    first, second = (Context(lease(attempt), Port(), None) for attempt in (1, 2))
    assert first.idempotency_token == second.idempotency_token
    assert first.idempotency_token


def test_cancelled_is_asked_each_time() -> None:
    port = Port()
    ctx = Context(lease(), port, None)
    assert not ctx.cancelled
    port.is_cancelled = True
    assert ctx.cancelled


def test_lines_are_bounded_and_storable() -> None:
    port = Port()
    ctx = Context(lease(), port, None)
    ctx.log("short")
    ctx.log("x" * 5_000, level="error")
    ctx.log("a\0b\ud800", level="debug")
    ctx.log(ValueError("an object"))  # type: ignore[arg-type]
    assert [level for level, _ in port.lines] == ["info", "error", "debug", "info"]
    short, long, odd, told = (message for _, message in port.lines)
    assert (short, odd, told) == ("short", "a\N{SYMBOL FOR NULL}b?", "an object")
    assert len(long) == limits.LOG_MESSAGE_CHARS_MAX
    assert "cut" in long
    with pytest.raises(InvalidInput) as refused:
        ctx.log("x", level="loud")  # type: ignore[arg-type]
    assert refused.value.pointer == "/level"


def test_progress_is_bounded() -> None:
    port = Port()
    ctx = Context(lease(), port, None)
    ctx.progress({"done": 3})
    assert [json.loads(value) for value in port.values] == [{"done": 3}]
    for value in ("x" * limits.PROGRESS_BYTES_MAX, float("nan"), object(), "\ud800"):
        with pytest.raises(InvalidInput) as refused:
            ctx.progress(value)
        assert refused.value.pointer == "/progress"
    assert len(port.values) == 1


async def test_jobs_of_a_handler_are_prepared_and_belong_to_its_tenant() -> None:
    port = Port()
    answer = await Context(lease(), port, None).enqueue(NewJob(kind="child"))
    assert answer.ref == JobRef("acme", "default", port.jobs[0].id)
    with pytest.raises(InvalidJob):
        await Context(lease(), port, None).enqueue(NewJob(kind=""))
    assert len(port.jobs) == 1


async def test_many_jobs_of_a_handler_are_bounded() -> None:
    port = Port()
    ctx = Context(lease(), port, None)
    assert await ctx.enqueue_many([]) == []
    assert len(await ctx.enqueue_many(NewJob(kind=str(n)) for n in range(limits.BATCH_MAX))) == limits.BATCH_MAX
    with pytest.raises(InvalidInput):
        await ctx.enqueue_many(NewJob(kind=str(n)) for n in range(10**9))
    assert len(port.jobs) == limits.BATCH_MAX


def test_a_plain_function_enqueues_through_run() -> None:
    port = Port()
    ctx = Context(lease(), port, None)
    assert ctx.run(ctx.enqueue(NewJob(kind="child"))).ref.id == port.jobs[0].id


async def test_a_rejected_child_is_an_error() -> None:
    port = Port()
    port.status = EnqueueStatus.REJECTED
    with pytest.raises(UniqueConflict) as rejected:
        await Context(lease(), port, None).enqueue(NewJob(kind="child"))
    assert rejected.value.holder_id == port.jobs[0].id


def test_a_plain_function_can_wait_until_it_shall_stop() -> None:
    port = Port()
    ctx = Context(lease(), port, None)
    assert ctx.wait(0.01) is False
    ctx.raise_if_cancelled()
    stopping = threading.Timer(0.05, lambda: setattr(port, "is_cancelled", True))
    stopping.start()
    assert ctx.wait(60.0) is True
    stopping.join()
    with pytest.raises(asyncio.CancelledError):
        ctx.raise_if_cancelled()


async def test_an_async_function_is_told_to_wait_otherwise() -> None:
    with pytest.raises(RuntimeError, match=r"asyncio\.sleep"):
        Context(lease(), Port(), None).wait(0.01)
