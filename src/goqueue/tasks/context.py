"""`Context`: what a handler can know and do about the job that it runs."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import msgspec

from goqueue.model import limits
from goqueue.model.errors import InvalidInput, UniqueConflict
from goqueue.model.query import EnqueueStatus
from goqueue.tasks import encoding
from goqueue.tasks.cutting import cut
from goqueue.tasks.onion import Around
from goqueue.tasks.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable, Sequence
    from datetime import datetime

    from goqueue.model.job import LogLevel, NewJob
    from goqueue.model.lease import Lease
    from goqueue.model.query import Enqueued
    from goqueue.tasks.onion import Layers

State = TypeVar("State", covariant=True)
T = TypeVar("T")

in_handler: ContextVar[bool] = ContextVar("goqueue_in_handler", default=False)
"""True while a handler runs in this context. The engine sets it; ``Job.result()`` reads it to refuse a deadlock."""

LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")

LOOK_S: Final = 0.05
"""`Context.wait` looks this often whether the handler shall stop."""

_meta_decoder = msgspec.json.Decoder(dict[str, str])


class ContextPort(Protocol):
    """What a worker does for the contexts of its handlers: one object per process, the lease says for which job."""

    @property
    def layers(self) -> Layers:
        """What goes around an enqueue."""
        ...

    def cancelled(self, lease: Lease) -> bool:
        """Tell whether somebody wants this job cancelled, or its lease is lost. Must be callable from any thread."""
        ...

    def progress(self, lease: Lease, value: bytes) -> None:
        """Keep the encoded value for the next beat. Must be callable from any thread."""
        ...

    def log(self, lease: Lease, level: LogLevel, message: str) -> None:
        """Keep a line for the next beat, or for the outcome. Must be callable from any thread."""
        ...

    async def enqueue(self, lease: Lease, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
        """Store prepared jobs, only while the lease is valid; else raise `LeaseLost`."""
        ...

    def complete_in(self, lease: Lease, conn: object, result: bytes | None) -> Awaitable[None]:
        """Complete the job in the transaction of ``conn``: at once on a sync connection, when awaited on an async one.

        Raises `LeaseLost` when the attempt has ended or its lease is lost, `InvalidInput` where it cannot be done.
        """
        ...

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run ``work`` on the worker's event loop and wait for it, from a handler that has a thread to itself."""
        ...


class Context(Generic[State]):
    """Handed to a handler whose first parameter is annotated with it.

    ``State`` is what the application's lifespan yields. The properties never do I/O.
    """

    __slots__ = ("_lease", "_port", "state")

    def __init__(self, lease: Lease, port: ContextPort, state: State) -> None:
        self._lease = lease
        self._port = port
        self.state = state
        """What the application's lifespan has yielded in this process; None if it has none."""

    @property
    def job_id(self) -> str:
        """The job's id, a UUIDv7."""
        return self._lease.id

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self._lease.kind

    @property
    def queue(self) -> str:
        """The queue it was claimed from."""
        return self._lease.queue

    @property
    def tenant(self) -> str:
        """The tenant it belongs to."""
        return self._lease.tenant

    @property
    def attempt(self) -> int:
        """The number of this attempt; the first is 1."""
        return self._lease.attempt

    @property
    def max_attempts(self) -> int:
        """After this many attempts the job is dead."""
        return self._lease.max_attempts

    @property
    def tags(self) -> tuple[str, ...]:
        """The job's tags."""
        return self._lease.tags

    @property
    def meta(self) -> dict[str, str]:
        """The job's meta; a fresh copy at each call."""
        raw = self._lease.meta
        return _meta_decoder.decode(raw) if raw else {}

    @property
    def created_at(self) -> datetime:
        """When the job was enqueued, by the store's clock."""
        return self._lease.created_at

    @property
    def run_at(self) -> datetime:
        """When this attempt was due, by the store's clock."""
        return self._lease.run_at

    @property
    def idempotency_token(self) -> str:
        """The same text at every attempt of this job, and of no other job.

        Give it to services that refuse to do one thing twice: a worker can crash after your effect and before the job
        is settled, and then the handler runs again.
        """
        return self._lease.id

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants this job cancelled, or the lease is lost: what it does further is for nothing.

        True as well when the time of this attempt, or of the job, is over, or the worker has to stop. An async handler
        is also sent ``CancelledError``; a plain function has to look here, or to wait with `wait`.
        """
        return self._port.cancelled(self._lease)

    def raise_if_cancelled(self) -> None:
        """Raise ``asyncio.CancelledError``, as an async handler is sent, if the handler shall stop."""
        if self.cancelled:
            raise asyncio.CancelledError(f"job {self.job_id} shall stop")

    def wait(self, seconds: float) -> bool:
        """Sleep in a plain function; return early, and True, when the handler shall stop.

        An async handler awaits ``asyncio.sleep`` instead, which the ``CancelledError`` ends.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("ctx.wait is for plain functions, which have a thread: await asyncio.sleep instead")
        until = time.monotonic() + seconds
        while not self.cancelled:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(left_s, LOOK_S))
        return True

    def progress(self, value: object) -> None:
        """Say how far the job is: any JSON value of at most 4,096 bytes. Travels with the worker's next beat.

        The last one goes with the outcome, if no beat came before (or with `complete_in`; after that it
        is too late). Raises `InvalidInput` for what cannot be stored.
        """
        self._port.progress(self._lease, encoding.encode(value, "/progress", limits.PROGRESS_BYTES_MAX, InvalidInput))

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Keep a line with the job: seen in its record, by `goqueue jobs show` and over HTTP. From any thread.

        Travels with the worker's next beat, with the outcome or with `complete_in` (after that it is lost). The newest
        100 lines of a job are kept; one that is longer than 1,000 characters is cut, with a mark. It is no replacement
        for your logging. Raises `InvalidInput` for another level than debug, info, warning and error.
        """
        if level not in LOG_LEVELS:
            raise InvalidInput(f"must be one of {', '.join(LOG_LEVELS)}, is {level!r}", "/level")
        self._port.log(self._lease, level, cut(str(message), limits.LOG_MESSAGE_CHARS_MAX))

    async def enqueue(self, job: NewJob[object]) -> Enqueued:
        """Store another job, only if this attempt still owns its own: a zombie's children are refused (`LeaseLost`).

        From a plain function: ``ctx.run(ctx.enqueue(job))``. Raises `UniqueConflict` if another job holds the unique
        key and the job says ``reject``.
        """
        answer = (await self.enqueue_many((job,)))[0]
        if (conflict := conflict_of(answer)) is not None:
            raise conflict
        return answer

    async def enqueue_many(self, jobs: Iterable[NewJob[object]]) -> list[Enqueued]:
        """Store other jobs, all or none; at most `limits.BATCH_MAX` of them. Answers in their order.

        They belong to the tenant of this job. A job that met a conflict says so in its answer's ``status``.
        """
        if self._port.layers:
            return await self._enqueue_around(jobs)
        ready = self._ready(jobs)
        return await self._port.enqueue(self._lease, ready) if ready else []

    async def _enqueue_around(self, jobs: Iterable[NewJob[object]]) -> list[Enqueued]:
        around = Around(self._port.layers)
        try:
            ready = self._ready(around.open(job) for job in jobs)
            answers = await self._port.enqueue(self._lease, ready) if ready else []
        except BaseException as error:
            around.fail(error)
        for conflict in around.end([conflict_of(answer) or answer for answer in answers]):
            if conflict is not None and not isinstance(conflict, UniqueConflict):
                raise conflict
        return answers

    def _ready(self, jobs: Iterable[NewJob[object]]) -> list[NewJob[object]]:
        ready: list[NewJob[object]] = []
        for job in jobs:
            if len(ready) == limits.BATCH_MAX:
                raise InvalidInput(f"takes at most {limits.BATCH_MAX} jobs at once", "/jobs")
            ready.append(prepare(job, self._lease.tenant))
        return ready

    def complete_in(self, conn: object, result: object = None) -> Awaitable[None]:
        """Complete this job inside your own transaction on ``conn``: it is completed exactly if you commit.

        So what the same transaction writes happens exactly once, whatever dies when. ``conn`` is a connection or a
        session to the database of the jobs, as `Client.enqueue` takes; with an async one await this before your commit
        (forgotten, nothing is completed, and the attempt ends as any other), with a sync one it is done when this
        returns. ``result`` is the job's result; what the handler returns is not looked at any more. Only PostgreSQL
        can: in a test's `Sandbox` it raises `InvalidInput`.

        Commit before it returns: if the transaction was rolled back, the attempt has failed (`CompletionRolledBack`).

        Raises `LeaseLost`, and then roll back, when the job is not this attempt's any more, or is completed already.
        """
        return self._port.complete_in(self._lease, conn, encoding.encode_result(result))

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Await ``work`` on the worker's event loop from a plain function in its thread, and return the result."""
        return self._port.run(work)

    def __repr__(self) -> str:
        return f"<Context {self.kind} {self.job_id} attempt {self.attempt} of {self.max_attempts}>"


def conflict_of(answer: Enqueued) -> UniqueConflict | None:
    """Return the conflict that an answer stands for."""
    if answer.status is EnqueueStatus.REJECTED:
        return UniqueConflict(f"job {answer.ref.id} holds the unique key", answer.ref.id)
    return None
