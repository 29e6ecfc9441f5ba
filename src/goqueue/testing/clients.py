"""The clients of a sandbox: those of `goqueue.wiring` over its store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from goqueue import wiring
from goqueue.client._async.client import AsyncClient as _AsyncClient
from goqueue.client._sync.client import Client as _Client
from goqueue.model.errors import ResultTimeout
from goqueue.store.memory import MemoryStore, SyncMemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from goqueue.client._async.job import AsyncJob
    from goqueue.client._sync.job import Job
    from goqueue.model.job import JobRecord, JobRef, NewJob
    from goqueue.model.query import Enqueued
    from goqueue.store.memory import Memory
    from goqueue.tasks.app import GoQueue
    from goqueue.testing.outcome import Ran

R = TypeVar("R")


class _Store(SyncMemoryStore):
    """Tells when jobs were stored."""

    def __init__(self, memory: Memory, stored: Callable[[], None]) -> None:
        super().__init__(memory)
        self._stored = stored

    def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Store jobs."""
        answers = super().enqueue(jobs, retry)
        self._stored()
        return answers


class _AsyncStore(MemoryStore):
    """Tells when jobs were stored."""

    def __init__(self, memory: Memory, stored: Callable[[], Awaitable[None]]) -> None:
        super().__init__(memory)
        self._stored = stored

    async def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Store jobs."""
        answers = await super().enqueue(jobs, retry)
        await self._stored()
        return answers


class _Transactions:
    """Stores at once: what a test's own connection does later is not known here."""

    def __init__(self, store: Callable[[], _Store]) -> None:
        self._store = store

    def enqueue(self, conn: object, jobs: Sequence[NewJob[Any]]) -> list[Enqueued]:
        """Store jobs."""
        del conn
        return self._store().enqueue(jobs)


class _AsyncTransactions:
    """The same for async clients."""

    def __init__(self, store: Callable[[], _AsyncStore]) -> None:
        self._store = store

    async def enqueue(self, conn: object, jobs: Sequence[NewJob[Any]]) -> list[Enqueued]:
        """Store jobs."""
        del conn
        return await self._store().enqueue(jobs)


class SandboxClient(wiring.Client):
    """A `goqueue.Client` over a sandbox's store."""

    def __init__(self, app: GoQueue, memory: Memory) -> None:
        self._after: Callable[[], None] | None = None
        self._memory = memory

        def connect() -> _Store:
            return _Store(memory, self._stored)

        _Client.__init__(self, app, connect=connect, transactions=_Transactions(connect))

    @contextlib.contextmanager
    def running(self, after: Callable[[], None]) -> Iterator[None]:
        """Call ``after`` when jobs were stored, inside the ``with`` block."""
        before, self._after = self._after, after
        try:
            yield
        finally:
            self._after = before

    def result_of(self, ref: JobRef, returns: object, timeout_s: float | None, allow_in_handler: bool) -> object:
        """Return a result that is there; nobody would make it while we wait."""
        record = self.read(ref)
        _require_final(record)
        return super().result_of(ref, returns, timeout_s, allow_in_handler)

    def _check_waits(self, jobs: list[Job[Any]], timeout_s: float | None, allow_in_handler: bool) -> None:
        super()._check_waits(jobs, timeout_s, allow_in_handler)
        _require_all_final(self._memory, jobs)

    def outcome_of(self, job: Job[R], ran: Sequence[Ran]) -> R:
        """Return what a job has returned, through JSON; raise what its handler has raised."""
        _raise_error(ran)
        return job.result(allow_in_handler=True)

    def _stored(self) -> None:
        if self._after is not None:
            self._after()


class SandboxAsyncClient(wiring.AsyncClient):
    """A `goqueue.AsyncClient` over a sandbox's store."""

    def __init__(self, app: GoQueue, memory: Memory) -> None:
        self._after: Callable[[], Awaitable[None]] | None = None
        self._memory = memory

        def connect() -> _AsyncStore:
            return _AsyncStore(memory, self._stored)

        _AsyncClient.__init__(self, app, connect=connect, transactions=_AsyncTransactions(connect))

    @contextlib.contextmanager
    def running(self, after: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Await ``after`` when jobs were stored, inside the ``with`` block."""
        before, self._after = self._after, after
        try:
            yield
        finally:
            self._after = before

    async def result_of(self, ref: JobRef, returns: object, timeout_s: float | None, allow_in_handler: bool) -> object:
        """Return a result that is there; nobody would make it while we wait."""
        record = await self.read(ref)
        _require_final(record)
        return await super().result_of(ref, returns, timeout_s, allow_in_handler)

    def _check_waits(self, jobs: list[AsyncJob[Any]], timeout_s: float | None, allow_in_handler: bool) -> None:
        super()._check_waits(jobs, timeout_s, allow_in_handler)
        _require_all_final(self._memory, jobs)

    async def outcome_of(self, job: AsyncJob[R], ran: Sequence[Ran]) -> R:
        """Return what a job has returned, through JSON; raise what its handler has raised."""
        _raise_error(ran)
        return await job.result(allow_in_handler=True)

    async def _stored(self) -> None:
        if self._after is not None:
            await self._after()


@contextlib.contextmanager
def adopted(client: wiring.Client | wiring.AsyncClient, model: SandboxClient | SandboxAsyncClient) -> Iterator[None]:
    """Let ``client`` be ``model`` inside the ``with`` block: other code holds it, under a name of its own."""
    kept = {"__class__": type(client), "__dict__": client.__dict__}
    _become(client, {"__class__": type(model), "__dict__": model.__dict__})
    try:
        yield
    finally:
        _become(client, kept)


def _become(client: object, attributes: Mapping[str, object]) -> None:
    for name, value in attributes.items():
        object.__setattr__(client, name, value)


def _require_all_final(memory: Memory, jobs: Sequence[Job[Any] | AsyncJob[Any]]) -> None:
    store = SyncMemoryStore(memory)
    for job in jobs:
        (record,) = store.get(job.ref.tenant, [job.id])
        if record is not None:
            _require_final(record)


def _require_final(record: JobRecord) -> None:
    if record.finished_at is None:
        raise ResultTimeout(
            f"job {record.id} ({record.kind}) is {record.state}: let the sandbox drain() or advance() first"
        )


def _raise_error(ran: Sequence[Ran]) -> None:
    for one in ran:
        if one.error is not None:
            raise one.error
