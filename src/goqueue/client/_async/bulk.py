"""`AsyncBulk`: the part of the client that stores any number of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, overload

from goqueue.client._async.primitives import Sending, Source, sleep
from goqueue.client.batch import PIECE, Batch
from goqueue.client.bulk import EnqueuedMany, Tally
from goqueue.model import limits
from goqueue.model.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.client._async.job import AsyncJob
    from goqueue.client._async.primitives import Items
    from goqueue.client.bulk import Run
    from goqueue.model.errors import Conflict
    from goqueue.model.job import NewJob
    from goqueue.tasks.onion import Layers

R = TypeVar("R")


class AsyncBulk(Protocol):
    """Stores jobs, 1,000 in a statement."""

    _layers: Layers
    _tenant: str

    @overload
    async def enqueue_many(
        self,
        jobs: Items[NewJob[R]],
        *,
        conn: object = None,
        run_id: str | None = None,
        progress: Callable[[EnqueuedMany], None] | None = None,
        handles: Literal[True] = True,
    ) -> list[AsyncJob[R]]: ...
    @overload
    async def enqueue_many(
        self,
        jobs: Items[NewJob[Any]],
        *,
        conn: object = None,
        run_id: str | None = None,
        progress: Callable[[EnqueuedMany], None] | None = None,
        handles: Literal[False],
    ) -> EnqueuedMany: ...
    async def enqueue_many(
        self,
        jobs: Items[NewJob[R]],
        *,
        conn: object = None,
        run_id: str | None = None,
        progress: Callable[[EnqueuedMany], None] | None = None,
        handles: bool = True,
    ) -> list[AsyncJob[R]] | EnqueuedMany:
        """Store any number of jobs, 1,000 in a statement, and return their handles in order.

        Each 1,000 is stored whole or not at all, after those before it; the next are taken from ``jobs`` meanwhile, so
        an iterator is never more than 2,000 jobs ahead. ``progress`` is called after each 1,000. The async client takes
        async iterators, too.

        On a ``conn`` that commits by itself that is so, too: all or nothing holds up to 1,000 jobs. Begin a transaction
        if it has to be all of more.

        With ``handles=False`` it returns `EnqueuedMany`, the counts, and its memory does not grow with the jobs.

        ``run_id`` (`goqueue.new_id` makes one) makes it safe to repeat: the ids of the jobs come from it and from their
        positions, so the same jobs in the same order, enqueued again under it after a crash, are stored exactly once
        (as long as those that have ended are kept: a job that was deleted, or has left the history, is stored anew).

        Raises like `enqueue`; for jobs that meet a conflict `PartlyEnqueued`, after all others are stored (with
        ``handles=False`` they are only counted). With ``run_id`` a job that differs from the one that is stored at its
        place is an `IdConflict` at once. A note of each error says how many jobs are stored.
        """
        if not isinstance(jobs, Iterable | AsyncIterable):
            raise InvalidInput(
                f"takes an iterable of jobs, not a {type(jobs).__name__}: enqueue(job) is for one", "/jobs"
            )
        if run_id is not None and conn is not None:
            raise InvalidInput("a transaction of your own is stored whole or not at all: it needs none", "/run_id")
        tally = Tally(run_id=run_id, keep=handles, progress=progress, began_at=monotonic())
        try:
            await self._enqueue_all(Source(jobs), conn, tally)
        except Exception as e:
            if conn is None:
                tally.note(e)
            raise
        if not handles:
            return tally.counts(monotonic())
        tally.refuse_conflicts()
        return cast("list[AsyncJob[R]]", tally.handles)

    async def _enqueue_all(self, source: Source[NewJob[Any]], conn: object, tally: Tally) -> None:
        self._refuse_closed()
        batch: Batch[Any] = await self._prepared(source, tally.run, 0)
        taken = len(batch.ready)
        try:
            while batch.ready:
                # A full one is on its way while the next is prepared; the caller's own connection is used by one alone.
                beside = conn is None and len(batch.ready) == limits.BATCH_MAX
                sending = Sending(partial(self._enqueue_batch, batch, conn), beside=beside)
                sent = batch
                try:
                    async with sending:
                        batch = await self._prepared(source, tally.run, taken)
                        taken += len(batch.ready)
                except BaseException as e:
                    if not sending.result:
                        sent.fail(e)
                    raise
                finally:
                    ended = sent.end(sending.result)
                    tally.answered(sent, ended, monotonic())
        finally:
            batch.close()

    async def _prepared(self, source: Source[NewJob[R]], run: Run | None, first: int) -> Batch[R]:
        """Take the next jobs, at most as many as one statement takes, and prepare them."""
        batch: Batch[R] = Batch(self._layers, self._tenant)
        try:
            while piece := await source.take(min(PIECE, limits.BATCH_MAX - len(batch.given))):
                if run is not None:
                    piece = [run.named(job, n) for n, job in enumerate(piece, first + len(batch.given))]
                batch.add(piece)
                if len(piece) == PIECE:
                    await sleep(0)
        except BaseException:
            batch.close()
            raise
        return batch

    # -- what the client brings -----------------------------------------------------------------------

    async def _enqueue_batch(self, batch: Batch[R], conn: object) -> list[AsyncJob[R] | Conflict]: ...

    def _refuse_closed(self) -> None: ...
