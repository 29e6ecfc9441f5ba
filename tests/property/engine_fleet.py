"""Real workers on one event loop and one memory store: started, cut off, stopped and killed as a machine says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

from goqueue.engine.burial import Burial
from goqueue.engine.journal import Journal, Page, slots_for
from goqueue.engine.verdict import Stop
from goqueue.engine.worker import Worker
from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import DEFAULT_TENANT, JobRef, NewJob
from goqueue.model.lease import Beat, Beaten, Claimed, Lease, Signal, Want
from goqueue.model.outcome import Answer, Settlement
from goqueue.model.query import Enqueued
from goqueue.settings import StoreSettings, WorkerSettings
from goqueue.store.memory import Clock, MemoryStore, working
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import CancelJob, DeadJob, SnoozeJob
from tests.property.engine_laws import Laws, Start

QUEUES = ("a", "b")
STEP_S = 100.0
"""Every delay of a handler and of the store, by the store's clock, which stands still between two rules."""
LEASE_S = 3600.0
QUIET_S = 20.0
"""All is quiet within this time, or something hangs."""
WORKER = WorkerSettings(
    lease_s=LEASE_S,
    beat_s=600.0,  # the machine says when to beat
    poll_s=0.02,
    concurrency=2,
    prefetch=1,
    grace_s=0.0,
    cancel_grace_s=0.02,
    outcomes_waiting_max=100,
)
STORE = StoreSettings(crash_delay_s=STEP_S)


class Line:
    """A worker's way to the store: it can be cut, lose an answer, and is dead with its process."""

    def __init__(self, store: MemoryStore, laws: Laws) -> None:
        self._store = store
        self._laws = laws
        self._open = asyncio.Event()
        self._open.set()
        self.lose_answer = False
        self.dead = False
        self.lost: set[tuple[str, int]] = set()
        """Leases that the worker has never heard of."""

    @property
    def cut(self) -> bool:
        """Whether calls go nowhere; they arrive when it is mended."""
        return not self._open.is_set()

    def set_cut(self, cut: bool) -> None:
        """Cut or mend it."""
        if cut:
            self._open.clear()
        else:
            self._open.set()

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        await self._pass()
        claimed = await self._store.claim(want, outcomes)
        self._laws.answered(outcomes, claimed.settled)
        self._laws.claimed(claimed.leases)
        if self.lose_answer:
            self.lost |= {(lease.id, lease.fence) for lease in claimed.leases}
        await self._back(matters=bool(outcomes or claimed.leases))
        return claimed

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        await self._pass()
        answers = await self._store.settle(outcomes)
        self._laws.answered(outcomes, answers)
        await self._back(matters=bool(outcomes))
        return answers

    async def extend(self, beat: Beat) -> Beaten:
        await self._pass()
        return await self._store.extend(beat)

    async def enqueue_by(self, jobs: Sequence[NewJob[object]], by: JobRef, fence: int) -> list[Enqueued]:
        await self._pass()
        return await self._store.enqueue_by(jobs, by, fence)

    def signals(self, tenant: str, queues: Sequence[str]) -> AsyncIterator[Signal]:
        return self._store.signals(tenant, queues)

    async def _pass(self) -> None:
        await asyncio.sleep(0)  # others come between, as they do on a network
        await self._open.wait()
        if self.dead:
            raise StoreUnavailable("this process is dead")

    async def _back(self, *, matters: bool) -> None:
        await asyncio.sleep(0)
        if self.lose_answer and matters:
            self.lose_answer = False
            raise StoreUnavailable("the answer was lost")


class Process:
    """One worker, with the page that its supervisor would read."""

    def __init__(self, fleet: Fleet) -> None:
        self.line = Line(fleet.store, fleet.laws)
        self.page = Page.create(slots_for(WORKER))
        journal = Journal(self.page)
        self.worker = Worker(fleet.app, self.line, WORKER, queues=QUEUES, journal=journal)
        self.running = asyncio.ensure_future(self.worker.run())

    @property
    def parts(self) -> Any:  # Any: the rooms of a worker are its own business, but a test of all of them looks in
        return self.worker._parts

    async def beat(self) -> None:
        """Beat now, and hear what the store says, whatever trips are under way."""
        await self.parts.keeper.beat()

    def handlers(self) -> list[asyncio.Task[None]]:
        """Return the tasks of its handlers, also of those that it has given up."""
        return [run.job for run in self.runs() if run.job is not None]

    def runs(self) -> list[Any]:  # Any: see `parts`
        """Return what it knows of the attempts that run, also of those that it has given up."""
        return [] if self.parts is None else [*self.parts.runner.running.values(), *self.parts.runner.hung]


class Fleet:
    """Workers, their handlers, and the clock. Lives on one event loop."""

    def __init__(self) -> None:
        self.store = MemoryStore(settings=STORE, clock=Clock(frozen=True))
        self.laws = Laws()
        self.plans: dict[str, list[str]] = {}
        """What the handler of a job does, attempt by attempt; afterwards it returns."""
        self.hanging: dict[tuple[str, int], asyncio.Future[str]] = {}
        self.patient = True
        """False: nobody hangs any more."""
        self.processes: list[Process] = []
        self.app = self._application()

    # -- handlers ---------------------------------------------------------------------------------------

    def _application(self) -> GoQueue:
        app = GoQueue(retry=RetryPolicy.fixed(STEP_S))

        @app.task
        async def act(ctx: Context[None]) -> dict[str, int]:
            return await self._act(ctx._lease)

        @app.task
        def act_in_thread(ctx: Context[None]) -> dict[str, int]:
            return self._end(self.laws.started(ctx._lease), self._next(ctx.job_id))

        return app

    def _next(self, job_id: str) -> str:
        plan = self.plans.get(job_id)
        return plan.pop(0) if plan else "return"

    async def _act(self, lease: Lease) -> dict[str, int]:
        start = self.laws.started(lease)
        wish = self._next(lease.id)
        if wish in ("hang", "stubborn") and self.patient:
            wish = await self._hang(start, stubborn=wish == "stubborn")
        return self._end(start, wish)

    async def _hang(self, start: Start, *, stubborn: bool) -> str:
        key = (start.lease.id, start.lease.fence)
        told = self.hanging[key] = asyncio.get_running_loop().create_future()
        try:
            while True:
                try:
                    return await asyncio.shield(told)
                except asyncio.CancelledError:
                    if not stubborn:
                        start.ended = "interrupted"
                        raise
        finally:
            del self.hanging[key]

    def _end(self, start: Start, wish: str) -> dict[str, int]:
        match wish:
            case "raise":
                start.ended = "raised"
                raise ValueError("as planned")
            case "snooze":
                start.ended = "snoozed"
                raise SnoozeJob(STEP_S)
            case "cancel":
                start.ended = "cancelled"
                raise CancelJob("not wanted")
            case "dead":
                start.ended = "dead"
                raise DeadJob("given up")
            case _:
                pass
        start.ended = "returned"
        return {"fence": start.lease.fence}

    def tell(self, key: tuple[str, int], wish: str) -> None:
        """Let a handler go on, if it still hangs."""
        told = self.hanging.get(key)
        if told is not None and not told.done():
            told.set_result(wish)

    # -- processes ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker."""
        self.processes.append(Process(self))

    async def kill(self, process: Process, *, supervised: bool) -> None:
        """End a worker as kill -9 does: nothing is settled, nobody takes leave. A supervisor may see it die."""
        self.processes.remove(process)
        process.line.dead = True
        process.line.set_cut(False)
        handlers = process.handlers()
        for handler in handlers:
            handler.cancel()
        self._let_go(process)
        process.running.cancel()
        await asyncio.wait([process.running, *handlers], timeout=QUIET_S)
        assert process.running.done()
        if supervised:
            await self._bury(process)
        process.page.close()

    def _let_go(self, process: Process) -> None:
        """Nobody waits for these handlers any more."""
        for run in process.runs():
            if (run.lease.id, run.lease.fence) in self.hanging:
                self.tell((run.lease.id, run.lease.fence), "return")

    async def _bury(self, process: Process) -> None:
        line = Line(self.store, self.laws)
        burial = Burial(
            process.worker.info,
            process.page.started(),
            "killed by the machine",
            WORKER,
            tenant=DEFAULT_TENANT,
            extend=line.extend,
            settle=line.settle,
        )
        await burial.perform()
        assert not self._held_by(process), "a burial leaves nothing behind"

    async def stop(self, process: Process) -> None:
        """Stop a worker gracefully: it leaves nothing behind."""
        process.line.set_cut(False)
        process.worker.stop()
        await asyncio.wait_for(asyncio.shield(process.running), QUIET_S)
        self.processes.remove(process)
        self._let_go(process)
        left = self._held_by(process) - process.line.lost
        assert not left, f"a graceful stop left {left}"
        process.page.close()

    def _held_by(self, process: Process) -> set[tuple[str, int]]:
        rows = self.store.memory.live.values()
        return {(row.job.id, row.fence) for row in rows if row.worker_id == process.worker.info.id}

    # -- quiet --------------------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Wait until nothing happens any more by itself."""
        self._wake()
        try:
            async with asyncio.timeout(QUIET_S):
                while (busy := self._busy()) is not None:
                    self._check()
                    await asyncio.sleep(0.001 if busy == "waits" else 0)
        except TimeoutError:
            raise AssertionError(f"it never becomes quiet: {self._busy()}") from None
        self._check()

    def _check(self) -> None:
        if self.laws.broken:
            raise AssertionError("\n".join(self.laws.broken))
        for process in self.processes:
            if process.running.done():
                self._died(process)

    def _died(self, process: Process) -> NoReturn:
        raise AssertionError(f"a worker has ended by itself: {process.running!r}")

    def _busy(self) -> str | None:
        return next((why for process in self.processes if (why := self._why_busy(process))), None)

    def _why_busy(self, process: Process) -> str | None:
        parts = process.parts
        if parts is None or not (parts.fetcher.open or process.line.cut):
            return "begins"
        runner = parts.runner
        moving = any(
            run.stop is not Stop.NONE or (run.lease.id, run.lease.fence) not in self.hanging
            for run in runner.running.values()
        )
        if moving or runner.busy:
            return "waits"
        if runner.waiting and len(runner.running) < WORKER.concurrency:
            return "waits"
        if process.line.cut:
            return None
        if parts.fetcher.in_flight or parts.settler.waiting:
            return "waits"
        memory = self.store.memory
        hears = memory.alive(DEFAULT_TENANT, process.worker.info.id)
        due = any(working.due(memory, DEFAULT_TENANT, queue) for queue in QUEUES)
        return "waits" if hears and due and parts.fetcher._room() > 0 else None

    def _wake(self) -> None:
        # A wake-up may be spurious; these spare the wait for the next poll when the clock has moved.
        memory = self.store.memory
        with memory.verb():
            for queue in QUEUES:
                memory.notify(DEFAULT_TENANT, Signal(queue))

    def advance(self, seconds: float) -> None:
        """Move the store's clock."""
        self.store.time_travel(seconds)

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        self.patient = False
        for process in list(self.processes):
            await self.kill(process, supervised=False)
        await self.store.close()
