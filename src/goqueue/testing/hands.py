"""Runs the due jobs of a memory store, one after the other, with the worker's own runner and judge."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.engine.port import HandlerPort
from goqueue.engine.runner import Runner
from goqueue.engine.worker import worker_info
from goqueue.model.admin import Duty
from goqueue.model.job import ErrorInfo
from goqueue.model.lease import Beat
from goqueue.model.outcome import Answer, Crash, Settlement
from goqueue.model.state import StoredState
from goqueue.store.memory import MemoryStore
from goqueue.store.memory.working import lease as claim_one
from goqueue.tasks import onion
from goqueue.testing.faults import Fault, Faults
from goqueue.testing.outcome import Drained, Ran

if TYPE_CHECKING:
    from goqueue.engine.executors.threads import ThreadExecutor
    from goqueue.engine.running import Running
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome
    from goqueue.settings import WorkerSettings
    from goqueue.store.memory import Memory
    from goqueue.store.memory.row import Row
    from goqueue.tasks.app import GoQueue

RUNS_MAX: Final = 10_000
"""Attempts in one call. More are a job that enqueues itself, or one that is put off for no time, for ever."""
SWEEP_MAX: Final = 1_000
LEASE_S: Final = 1e9
"""The sandbox's own worker does not expire while its clock travels."""
RANDOM: Final = 0.5
"""Instead of chance: delays of retries are the same in each run of a test."""
CRASHED: Final = ErrorInfo("WorkerCrashed", "its worker died: the test wanted it so")


class TooManyRuns(AssertionError):
    """A sandbox has run `RUNS_MAX` attempts in one call, and there are still more."""


class _Runner(Runner):
    """Keeps what the handler itself returned or raised, for the test."""

    returned: object = None
    raised: BaseException | None = None

    def _finish(self, run: Running, returned: object, raised: BaseException | None) -> Outcome | None:
        self.returned, self.raised = returned, raised
        return super()._finish(run, returned, raised)


class Hands:
    """A worker that does what it is told: nothing happens between two calls. Lives on one event loop.

    ``threads`` runs plain functions; process handlers run as plain functions, too, and nothing is run apart.
    """

    def __init__(
        self, app: GoQueue, memory: Memory, threads: ThreadExecutor, faults: Faults, settings: WorkerSettings
    ) -> None:
        app.check()
        self.busy = False
        self._app = app
        self._memory = memory
        self._store = MemoryStore(memory)
        self._faults = faults
        self._worker = worker_info(app, settings, (), name="sandbox")
        self._settled: asyncio.Queue[Settlement] = asyncio.Queue()
        port = HandlerPort(self._store, onion.around_enqueue(app.middleware))
        self._runner = _Runner(
            app,
            settings,
            settle=self._settled.put_nowait,
            returns=lambda _: None,
            wake=lambda: None,
            crowded=lambda: None,
            port=port,
            threads=threads,
            random01=lambda: RANDOM,
        )
        port.bind(self._runner.running)
        self._life: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Leave the application's lifespan, if a job has entered it. Idempotent."""
        self._leave.set()
        life, self._life = self._life, None
        if life is not None:
            await life
        await self._runner.close()

    async def _enter(self) -> None:
        """Enter the application's lifespan, once, in a task of its own: it must be left in the same one."""
        if self._app.lifespan is None or self._life is not None:
            return
        entered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(entered))
        try:
            self._runner.enter(await entered)
        except BaseException:
            self._life = None
            raise

    async def _live(self, entered: asyncio.Future[object]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                state = await stack.enter_async_context(self._app.live())
            except BaseException as error:
                if not entered.done():
                    entered.set_exception(error)
                return
            entered.set_result(state)
            await self._leave.wait()

    # -- runs ---------------------------------------------------------------------------------------

    async def drain(self, *, only: str | None = None) -> Drained:
        """Run what is due, and what becomes due by that, until nothing is. ``only``: the job with this id, once."""
        if self.busy:
            raise RuntimeError("a job of this sandbox runs already: its handler cannot run others, they come after it")
        self.busy = True
        try:
            await self._sweep()
            ran: list[Ran] = []
            while (row := self._next(only)) is not None:
                if len(ran) == RUNS_MAX:
                    raise TooManyRuns(f"ran {RUNS_MAX} attempts, and {row.job.kind!r} is due again: does it ever end?")
                ran.append(await self._run(row))
                if only is not None:
                    break
            return Drained(ran)
        finally:
            self.busy = False

    async def advance(self, delta: timedelta) -> Drained:
        """Move the clock; stop at each instant at which something falls due, and run it then."""
        until = self._memory.now() + delta
        ran = list(await self.drain())
        while (at := self._next_instant(until)) is not None:
            self._travel(at)
            ran += await self.drain()
            if len(ran) > RUNS_MAX:
                raise TooManyRuns(f"ran {len(ran)} attempts by {at}, {until - at} before the end: advance in steps")
        self._travel(until)
        ran += await self.drain()
        return Drained(ran)

    def _travel(self, to: datetime) -> None:
        self._memory.time_travel((to - self._memory.now()).total_seconds())

    def _rows(self) -> list[Row]:
        """Waiting jobs that this application could run; those of other applications wait on."""
        rows = [row for row in self._memory.live.values() if row.state is StoredState.WAITING]
        paused = self._memory.paused
        return [r for r in rows if r.job.kind in self._app.kinds and (r.job.tenant, r.job.queue) not in paused]

    def _next(self, only: str | None) -> Row | None:
        with self._memory.verb():
            if only is not None:
                return next((row for row in self._rows() if row.job.id == only), None)
            due = (row for row in self._rows() if self._memory.expired(row.run_at))
            return min(due, key=lambda row: (row.job.priority, row.run_at, row.job.id), default=None)

    def _next_instant(self, until: datetime) -> datetime | None:
        with self._memory.verb():
            now = self._memory.now()
            run_at = [row.run_at for row in self._rows()]
            ends = [row.expire_at for row in self._memory.live.values() if row.state is not StoredState.RUNNING]
            later = (at for at in (*run_at, *ends) if at is not None and now < at <= until)
            return min(later, default=None)

    async def _run(self, row: Row) -> Ran:
        await self._enter()
        await self._store.extend(Beat(worker=self._worker, ttl_s=LEASE_S))
        fault = self._faults.take(row.job.kind)
        with self._memory.verb():
            lease = claim_one(self._memory, row, self._worker.id)
        if fault is Fault.CRASH_BEFORE:
            return await self._settle(lease, Settlement(lease.ref, lease.fence, Crash(CRASHED)))
        if fault is Fault.LOSE_LEASE:
            await self._store.extend(Beat(worker=self._worker, ttl_s=0))
            await self._sweep()
        self._runner.returned = self._runner.raised = None
        # Nothing runs apart here: whether it has crashed before is the store's to know.
        self._runner.add([msgspec.structs.replace(lease, crashes=0)])
        settlement = await self._settled.get()
        if fault is Fault.CRASH:
            settlement = msgspec.structs.replace(settlement, outcome=Crash(CRASHED))
        return await self._settle(lease, settlement, self._runner.returned, self._runner.raised)

    async def _settle(
        self, lease: Lease, settlement: Settlement, returned: object = None, raised: BaseException | None = None
    ) -> Ran:
        answer: Answer = (await self._store.settle([settlement]))[0]
        return Ran(lease.id, lease.kind, lease.attempt, settlement.outcome, answer, returned, raised)

    async def _sweep(self) -> None:
        for duty in (Duty.EXPIRED, Duty.ORPHANS, Duty.HISTORY):
            while (await self._store.sweep(duty, SWEEP_MAX)).more:
                pass
