"""What `goqueue.tasks.context.Context` asks of the worker that runs its handler."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

from goqueue.engine.completion import complete
from goqueue.engine.verdict import Stop
from goqueue.model.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping, Sequence

    from goqueue.engine.completion import Completer
    from goqueue.engine.running import Running
    from goqueue.model.job import LogLevel, NewJob
    from goqueue.model.lease import Lease
    from goqueue.model.query import Enqueued
    from goqueue.store.port import WorkStore
    from goqueue.tasks.onion import Layers

T = TypeVar("T")


class HandlerPort:
    """One for each worker. `bind` gives it the runner's table of what runs. ``layers`` go around enqueues."""

    def __init__(self, store: WorkStore, layers: Layers = (), completer: Completer | None = None) -> None:
        self.layers = layers
        self._store = store
        self._completer = completer
        self._running: Mapping[str, Running] = {}
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    def bind(self, running: Mapping[str, Running]) -> None:
        """Say where the running jobs are."""
        self._running = running

    def cancelled(self, lease: Lease) -> bool:
        """Tell whether the handler should stop. From any thread: one look into a table."""
        run = self._running.get(lease.id)
        return run is None or run.lease.fence != lease.fence or run.stop is not Stop.NONE

    def progress(self, lease: Lease, value: bytes) -> None:
        """Keep the encoded value for the next beat. From any thread: one assignment."""
        run = self._running.get(lease.id)
        if run is not None and run.lease.fence == lease.fence:
            run.progress = value

    def log(self, lease: Lease, level: LogLevel, message: str) -> None:
        """Keep a line for the next beat, or for the outcome. From any thread."""
        run = self._running.get(lease.id)
        if run is not None and run.lease.fence == lease.fence:
            run.log(level, message)

    async def enqueue(self, lease: Lease, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
        """Store prepared jobs under the lease. Always on the worker's loop, where the store lives."""
        work = self._store.enqueue_by(jobs, lease.ref, lease.fence)
        if threading.get_ident() == self._loop_thread:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def complete_in(self, lease: Lease, conn: object, result: bytes | None) -> Awaitable[None]:
        """Complete the job in the transaction of ``conn``. From any thread."""
        run = self._running.get(lease.id)
        if run is None or run.lease.fence != lease.fence or run.decided:
            raise LeaseLost(f"this attempt of job {lease.id} has ended: roll the transaction back")
        if run.stop.spoils:
            raise LeaseLost(f"the time of this attempt of job {lease.id} is over: roll the transaction back")
        return complete(self._completer, conn, lease, result, run.note(), mark=run.mark_completing)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run ``work`` on the worker's loop and wait, from a handler's thread. The work has deadlines of its own."""
        if threading.get_ident() == self._loop_thread:
            work.close()
            raise RuntimeError("ctx.run is for plain functions, which have a thread: await it instead")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
