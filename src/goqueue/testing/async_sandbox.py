"""`AsyncSandbox`: an application, a store in memory, a clock that the test moves. On the test's own event loop."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from goqueue.engine.executors.threads import ThreadExecutor
from goqueue.settings import WorkerSettings
from goqueue.store.memory import Clock, Memory
from goqueue.testing.asserting import Wanted, all_jobs, listing
from goqueue.testing.clients import SandboxAsyncClient, SandboxClient, adopted
from goqueue.testing.faults import Fault, Faults
from goqueue.testing.hands import Hands
from goqueue.wiring import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from goqueue.model.job import JobRecord, NewJob
    from goqueue.model.state import JobState
    from goqueue.settings import StoreSettings
    from goqueue.tasks.app import AnyTask, GoQueue
    from goqueue.testing.outcome import Drained

R = TypeVar("R")


class Jobs:
    """What both sandboxes have: the store in memory, its clock, looks at the jobs, and faults."""

    def __init__(
        self,
        app: GoQueue,
        *,
        now: datetime | None = None,
        settings: StoreSettings | None = None,
        worker: WorkerSettings | None = None,
    ) -> None:
        self.app = app
        self._worker = worker or WorkerSettings()
        self.memory = Memory(settings, clock=Clock(at=now or datetime.now(UTC)))
        self.client = SandboxClient(app, self.memory)
        """A `goqueue.Client` of this sandbox. With ``conn=`` it stores at once: there is no transaction here."""
        self.async_client = SandboxAsyncClient(app, self.memory)
        """The same as a `goqueue.AsyncClient`."""
        self._faults = Faults()

    @property
    def now(self) -> datetime:
        """The sandbox's instant. It stands still except when the test moves it."""
        return self.memory.now()

    # -- looks --------------------------------------------------------------------------------------

    def jobs(
        self, task: AnyTask | str | None = None, *, args: Mapping[str, object] | None = None, **conditions: Any
    ) -> list[JobRecord]:
        """Return all jobs, final ones too, in the order of their enqueue. Conditions as for `assert_enqueued`."""
        wanted = Wanted(task, args=args, **conditions)
        return [job for job in all_jobs(self.memory) if wanted.matches(job)]

    def assert_enqueued(
        self,
        task: AnyTask | str,
        *,
        args: Mapping[str, object] | None = None,
        queue: str | None = None,
        state: JobState | str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        unique_key: str | None = None,
        run_at: datetime | None = None,
        priority: int | None = None,
        count: int | None = None,
    ) -> JobRecord:
        """Check that a job is there, whatever has become of it, and return the first one.

        ``task`` is a task or a kind. Of ``args``, ``tags`` and ``meta`` the job must have all that is named; it may
        have more. ``count``: exactly so many jobs. Raises `AssertionError`, which lists the jobs that there are.
        """
        wanted = Wanted(
            task,
            args=args,
            queue=queue,
            state=state,
            tags=tags,
            meta=meta,
            unique_key=unique_key,
            run_at=run_at,
            priority=priority,
        )
        jobs = all_jobs(self.memory)
        found = [job for job in jobs if wanted.matches(job)]
        if not found or count not in (None, len(found)):
            expected = "a job" if count is None else f"{count} jobs"
            raise AssertionError(f"expected {expected} {wanted}, found {len(found)}. {listing(jobs)}")
        return found[0]

    def assert_not_enqueued(
        self, task: AnyTask | str, *, args: Mapping[str, object] | None = None, **conditions: Any
    ) -> None:
        """Check that no such job was enqueued. Conditions as for `assert_enqueued`."""
        found = self.jobs(task, args=args, **conditions)
        if found:
            raise AssertionError(f"expected no job {Wanted(task, args=args, **conditions)}. {listing(found)}")

    @contextlib.contextmanager
    def adopt(self, *clients: Client | AsyncClient) -> Iterator[Self]:
        """Let clients that the code under test holds (a module's global one) store here, inside the ``with`` block.

        What they have open is left as it is, and is theirs again afterwards. Raises `TypeError` for anything else.
        """
        with contextlib.ExitStack() as stack:
            for client in clients:
                if isinstance(client, AsyncClient):
                    stack.enter_context(adopted(client, self.async_client))
                elif isinstance(client, Client):
                    stack.enter_context(adopted(client, self.client))
                else:
                    raise TypeError(f"adopt takes a goqueue.Client or AsyncClient, not a {type(client).__name__}")
            yield self

    def clear(self) -> None:
        """Forget all jobs, and the faults that wait."""
        with self.memory.verb():
            for jobs in (self.memory.live, self.memory.past, self.memory.keys):
                jobs.clear()
        self._faults.clear()

    # -- faults -------------------------------------------------------------------------------------

    def lose_lease(self, task: AnyTask | str | None = None, *, times: int = 1) -> None:
        """Let the next attempt (of this task, or of any) be one whose lease is lost: a zombie.

        Its handler runs to its end, but the job is another attempt's by then: the result does not count, jobs that it
        enqueues with ``ctx.enqueue`` are refused (`LeaseLost`), and the job runs again after the store's crash delay.
        """
        self._faults.add(Fault.LOSE_LEASE, task, times)

    def crash(self, task: AnyTask | str | None = None, *, times: int = 1, before: bool = False) -> None:
        """Let the process of the next attempt die: when the handler has done its work, or ``before`` it begins.

        The job's ``crashes`` grow by one; it runs again after the store's crash delay, or is dead at ``max_crashes``.
        """
        self._faults.add(Fault.CRASH_BEFORE if before else Fault.CRASH, task, times)


class AsyncSandbox(Jobs):
    """Run an application's jobs in a test that has an event loop: ``async with AsyncSandbox(app) as sandbox``.

    Async handlers run on the test's loop, plain ones in threads, also those of ``run_in="process"``. Nothing runs by
    itself: `drain` runs what is due, `advance` moves the clock and runs what falls due. Delays of retries are without
    chance (the middle of their jitter). ``now`` is where the clock stands at first, by default the real instant.
    """

    _made: Hands | None = None

    async def drain(self) -> Drained:
        """Run what is due, and what becomes due by that, until nothing is."""
        return await self._hands.drain()

    async def advance(
        self,
        delta: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> Drained:
        """Move the clock, and run all that falls due meanwhile, each at its own instant: retries, snoozed jobs too."""
        return await self._hands.advance(span(delta, days, hours, minutes, seconds))

    async def perform(self, job: NewJob[R]) -> R:
        """Store one job, run one attempt of it at once, and return its result, through JSON as in life.

        Raises what the handler raised, itself. Other jobs wait.
        """
        stored = await self.async_client.enqueue(job.options(delay_s=0))
        ran = (await self._hands.drain(only=stored.id)).ran
        return await self.async_client.outcome_of(stored, ran)

    @contextlib.contextmanager
    def inline(self) -> Iterator[Self]:
        """Run jobs at once when they are enqueued by this sandbox's async client, inside the ``with`` block.

        What a handler raises, the enqueue raises. Jobs with a delay wait for `advance`.
        """
        with self.async_client.running(self._run_inline):
            yield self

    async def _run_inline(self) -> None:
        if not self._hands.busy:  # else a handler has enqueued it: it comes after that one
            for error in (await self.drain()).errors:
                raise error

    @property
    def _hands(self) -> Hands:
        if self._made is None:
            threads = ThreadExecutor(self._worker.threads)
            self._made = Hands(self.app, self.memory, threads, self._faults, self._worker)
        return self._made

    async def close(self) -> None:
        """Leave the application's lifespan and close the clients."""
        if self._made is not None:
            await self._made.close()
        self.client.close()
        await self.async_client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def span(delta: timedelta | None, days: float, hours: float, minutes: float, seconds: float) -> timedelta:
    """Return how far a clock is to be moved. Raises `ValueError` for a move back, or none."""
    total = (delta or timedelta()) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if total <= timedelta():
        raise ValueError(f"a clock goes forward: advance(days=…, hours=…, minutes=…, seconds=…), not by {total}")
    return total
