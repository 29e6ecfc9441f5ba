"""Concurrent submissions become few statements: what arrives while a batch is in flight goes with the next one.

Group commit without a timer: who submits alone stores a job at once, many at the same time fill batches by themselves.
Only *plain* submissions come here (no unique key, an id of our own making): such an insert waits for nobody's lock, so
one caller cannot hold up the others of its batch. The server and the async client both gather with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from goqueue.model.errors import GoQueueError, NotSent, StoreUnavailable, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued
    from goqueue.store.jobs_async import AsyncJobStore

    Waiter = asyncio.Future[Enqueued]


async def store_each(
    store: AsyncJobStore, jobs: Sequence[NewJob[object]], *, retry: bool = False
) -> list[Enqueued | Exception]:
    """Store ``jobs`` in as few statements as they allow; an item that the store refuses gets its own error.

    A failing statement is split in halves until the bad item stands alone. When the store is unavailable there is
    nothing to find by splitting: all of the batch get that error.
    """
    try:
        return list(await store.enqueue(jobs, retry))
    except Unavailable as e:
        return [e] * len(jobs)
    except Exception as e:  # whatever it is, it belongs to the item that caused it
        if len(jobs) == 1:
            return [e]
    middle = len(jobs) // 2
    # The failed statement stored nothing, but an error that we do not know proves little: ask as one who asks again.
    first = await store_each(store, jobs[:middle], retry=True)
    return first + await store_each(store, jobs[middle:], retry=True)


class Gatherer:
    """Gathers single jobs into batches of at most ``batch_max``; at most ``in_flight_max`` are in the store at once.

    At most ``waiting_max`` jobs wait; beyond that `submit` raises `NotSent` at once. When the store does not answer a
    batch in time, those that have waited meanwhile get `NotSent` too: nobody waits for one deadline after the other.
    ``heard`` is told of each answer (True) and of each failure to get one (False).
    """

    def __init__(
        self,
        store: AsyncJobStore,
        *,
        batch_max: int,
        waiting_max: int,
        in_flight_max: int = 2,
        heard: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._in_flight_max = in_flight_max
        self._heard = heard
        self._waiting: deque[tuple[NewJob[object], Waiter]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._alone: asyncio.Future[None] | None = None
        """Done when the one who came alone, and is in the store on its own task, is back."""
        self._closed = False

    async def submit(self, job: NewJob[object]) -> Enqueued:
        """Store one job; return when its batch has been committed.

        Raises what the store raised for this very job. A caller that gives up (is cancelled) before its batch left
        has stored nothing; later it has.
        """
        if self._closed:
            raise NotSent("this process is stopping")
        if len(self._waiting) >= self._waiting_max:
            raise NotSent(f"{self._waiting_max} submissions wait for the store already; try again later")
        if not (self._flights or self._alone):
            return await self._go_alone(job)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((job, waiter))
        # Who waits needs a flight, however many the store has: one that went alone takes nobody along.
        if not self._flights or len(self._flights) + (self._alone is not None) < self._in_flight_max:
            flight = asyncio.create_task(self._fly(), name="goqueue.gather")
            self._flights.add(flight)
            flight.add_done_callback(self._landed)
        return await waiter

    async def _go_alone(self, job: NewJob[object]) -> Enqueued:
        """Store a job on its caller's own task: nobody is there to share a batch, or the cost of one."""
        alone = self._alone = asyncio.get_running_loop().create_future()
        try:
            answer = (await self._store.enqueue([job]))[0]
        except Unavailable:
            self._heard(False)
            raise
        finally:
            self._alone = None
            alone.set_result(None)
        self._heard(True)
        return answer

    async def close(self, grace_s: float) -> None:
        """Take no more, let what waits be stored for ``grace_s`` seconds, then fail what is left. Idempotent.

        One that went alone is waited for as long, and then left to its caller.
        """
        self._closed = True
        under_way = {*self._flights, *([self._alone] if self._alone else [])}
        if under_way:
            await asyncio.wait(under_way, timeout=grace_s)
        late = [flight for flight in self._flights if flight.cancel()]
        if late:
            await asyncio.wait(late, timeout=grace_s)
        self._send_back(NotSent("this process stopped before the job was stored"))

    def _send_back(self, error: NotSent) -> None:
        """Fail all that wait."""
        while self._waiting:
            _fail(self._waiting.popleft()[1], error)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        """A flight is over: also one that somebody else has cancelled, perhaps before it began."""
        self._flights.discard(flight)
        if flight.cancelled() and not self._flights:
            self._send_back(NotSent("what would have stored the job was cancelled"))

    async def _fly(self) -> None:
        try:
            await self._store_batches()
        finally:
            # Here and not in a callback of the task: that would run after those who were answered have submitted again,
            # and they would wait for a flight that has ended.
            flight = asyncio.current_task()
            assert flight is not None
            self._flights.discard(flight)

    async def _store_batches(self) -> None:
        while batch := self._next_batch():
            try:
                answers = await store_each(self._store, [job for job, _ in batch])
            except BaseException:
                # Only a cancellation comes here. Nobody may be left waiting for an answer that will not come.
                for _, waiter in batch:
                    _fail(waiter, StoreUnavailable("this process stopped before the store answered"))
                raise
            answered = not any(isinstance(answer, Unavailable) for answer in answers)
            self._heard(answered)
            if not answered:
                self._send_back(NotSent("the store did not answer those before in time; nothing of this job was sent"))
            for (_, waiter), answer in zip(batch, answers, strict=True):
                if isinstance(answer, Exception):
                    _fail(waiter, answer)
                elif not waiter.done():
                    waiter.set_result(answer)

    def _next_batch(self) -> list[tuple[NewJob[object], Waiter]]:
        batch: list[tuple[NewJob[object], Waiter]] = []
        while self._waiting and len(batch) < self._batch_max:
            item = self._waiting.popleft()
            if not item[1].done():  # its caller has given up
                batch.append(item)
        return batch


def _fail(waiter: Waiter, error: Exception) -> None:
    if waiter.done():
        return
    if isinstance(error, GoQueueError):
        # One instance raised in many tasks would grow one shared traceback.
        copy = error.__class__.__new__(error.__class__)
        copy.__dict__.update(error.__dict__)
        copy.args = error.args
        copy.__cause__ = error
        error = copy
    waiter.set_exception(error)
