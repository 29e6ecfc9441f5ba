"""Users, operators, faults and time, at random, around real workers; `tests.property.engine_laws` watches."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeAlias

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from goqueue.model.admin import Duty
from goqueue.model.job import DEFAULT_TENANT, NewJob, OnConflict, Unique
from goqueue.model.query import (
    CancelJobs,
    Change,
    ChangeStatus,
    EnqueueStatus,
    RetryJobs,
    Selection,
)
from goqueue.model.state import JobState, StoredState
from goqueue.tasks.prepare import prepare
from tests.property.engine_fleet import LEASE_S, QUEUES, STEP_S, Fleet, Process

PROCESSES_MAX = 3
ROUNDS_MAX = 100
"""At the end everything is final after so many rounds of time and upkeep, or it never will be."""
TURNS_MAX = 12
STEP_MAX_S = 60.0
"""A step that takes longer than this hangs."""
indexes = st.integers(0, 10_000)

WISHES = ["return", "raise", "snooze", "cancel", "dead", "hang", "hang", "stubborn"]
plans = st.lists(st.sampled_from(WISHES), max_size=3)
KEYS = [
    Unique(key=key, on_conflict=on_conflict, final_states=final_states, until_started=until_started)
    for key in ("k", "l")
    for on_conflict in OnConflict
    for final_states, until_started in (((), False), ((JobState.COMPLETED, JobState.DEAD), False), ((), True))
]
TIMES: list[dict[str, Any]] = [*[{}] * 4, {"delay_s": STEP_S}, {"delay_s": 2 * STEP_S}]  # Any: fields of NewJob
SHAPES: list[dict[str, Any]] = [  # Any: fields of NewJob
    *[{}] * 3,
    {"max_attempts": 1, "priority": 1},
    {"max_attempts": 2, "max_crashes": 2, "priority": 9},
    {"max_crashes": 1},
    {"schedule_to_start_s": 0.5 * STEP_S},
    {"deadline_s": 2.5 * STEP_S},
    {"deadline_s": 1.5 * LEASE_S, "schedule_to_start_s": 20 * STEP_S},
]
orders = st.tuples(
    st.sampled_from(["act", "act", "act", "act_in_thread"]),
    st.sampled_from(QUEUES),
    st.sampled_from(TIMES),
    st.sampled_from(SHAPES),
    st.sampled_from([*[None] * 20, *KEYS]),
    plans,
)
Order: TypeAlias = tuple[str, str, dict[str, Any], dict[str, Any], Unique | None, list[str]]
"""A job, and what its handler will do."""


class EngineMachine(RuleBasedStateMachine):
    """Each rule does one thing, lets the workers come to rest, and holds all that the store says against the laws."""

    failures: ClassVar[list[BaseException]] = []
    """What went wrong, in the order in which it did. Threads and timers take part: a failure may not come again when
    Hypothesis tries its steps again, and then this is where it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.failed = False
        self.enqueued = False
        self.fleet = self.runner.run(self._make())

    async def _make(self) -> Fleet:
        return self.make_fleet()

    @staticmethod
    def make_fleet() -> Fleet:
        """Return a fleet; a test of the tests returns a broken one."""
        return Fleet()

    # -- processes ----------------------------------------------------------------------------------------

    @initialize(count=st.integers(1, PROCESSES_MAX))
    def begin(self, count: int) -> None:
        """Start with some workers."""
        for _ in range(count):
            self.start()

    @precondition(lambda self: len(self.fleet.processes) < PROCESSES_MAX)
    @rule()
    def start(self) -> None:
        """Start a worker."""

        async def start() -> None:
            self.fleet.start()

        self._do(start())

    @precondition(lambda self: self.fleet.processes)
    @rule(at=indexes, supervised=st.booleans(), turns=st.integers(0, TURNS_MAX))
    def kill(self, at: int, supervised: bool, turns: int) -> None:
        """Kill a worker, at rest or in the middle of something."""

        async def kill() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await self.fleet.kill(self._process(at), supervised=supervised)

        self._do(kill())

    @precondition(lambda self: self.fleet.processes)
    @rule(
        batch=st.lists(orders, min_size=1, max_size=6),
        at=indexes,
        turns=st.integers(0, TURNS_MAX),
        how=st.sampled_from(["killed", "buried", "stopped"]),
    )
    def enqueue_and_end(self, batch: list[Order], at: int, turns: int, how: str) -> None:
        """End a worker while it is busy with what has just come."""

        async def both() -> None:
            await self._enqueue(batch)
            for _ in range(turns):
                await asyncio.sleep(0)
            process = self._process(at)
            if how == "stopped":
                await self.fleet.stop(process)
            else:
                await self.fleet.kill(process, supervised=how == "buried")

        self._do(both())

    @precondition(lambda self: self.fleet.processes)
    @rule(at=indexes)
    def stop(self, at: int) -> None:
        """Stop a worker gracefully, without patience for its handlers."""
        self._do(self.fleet.stop(self._process(at)))

    @precondition(lambda self: self.fleet.processes)
    @rule(at=indexes, cut=st.booleans())
    def cut(self, at: int, cut: bool) -> None:
        """Cut a worker off from the store, or mend its line: then it hears what it has missed."""
        process = self._process(at)

        async def mend() -> None:
            process.line.set_cut(cut)
            if not cut:
                await process.beat()

        self._do(mend())

    @precondition(lambda self: self.fleet.processes)
    @rule(at=indexes)
    def lose_answer(self, at: int) -> None:
        """Let the next claim or settle of a worker happen, and its answer be lost."""
        self._process(at).line.lose_answer = True

    @precondition(lambda self: self.fleet.processes)
    @rule(at=indexes, swept=st.booleans())
    def freeze(self, at: int, swept: bool) -> None:
        """Cut a worker off until its lease is over, while its handlers go on; perhaps others have its jobs by then."""
        process = self._process(at)

        async def freeze() -> None:
            process.line.set_cut(True)
            for run in process.runs():
                self.fleet.tell((run.lease.id, run.lease.fence), "return")
            await self._advance(1.5 * LEASE_S, [other for other in self.fleet.processes if other is not process])
            if swept:
                await self._sweep(Duty.ORPHANS)
                await self._advance(2 * STEP_S, [other for other in self.fleet.processes if other is not process])
            await self.fleet.quiet()
            process.line.set_cut(False)
            await process.beat()

        self._do(freeze())

    @precondition(lambda self: self.fleet.processes)
    @rule(at=indexes, times=st.integers(1, 2))
    def beat(self, at: int, times: int) -> None:
        """Let a worker beat: what it sees twice without knowing of it, it gives back."""

        async def beat() -> None:
            for _ in range(times):
                await self._beat([self._process(at)])

        self._do(beat())

    @rule(at=indexes, wish=st.sampled_from(["return", "return", "raise", "snooze", "cancel", "dead"]))
    def tell(self, at: int, wish: str) -> None:
        """Let a handler that hangs go on."""
        keys = sorted(self.fleet.hanging)

        async def tell() -> None:
            self.fleet.tell(keys[at % len(keys)], wish)

        # No precondition: which handlers hang is for threads and timers to say, and Hypothesis wants to know before.
        if keys:
            self._do(tell())

    # -- users and operators --------------------------------------------------------------------------------

    @rule(batch=st.lists(orders, min_size=1, max_size=6))
    def enqueue(self, batch: list[Order]) -> None:
        """Enqueue some jobs, whose handlers will do as planned."""
        self._do(self._enqueue(batch))

    async def _enqueue(self, batch: list[Order]) -> None:
        ready = [
            prepare(NewJob[object](kind=kind, queue=queue, unique=unique, **time, **shape))
            for kind, queue, time, shape, unique, _ in batch
        ]
        for job, order in zip(ready, batch, strict=True):
            self.fleet.plans[job.id] = list(order[-1])
        self.enqueued = True
        answers = await self.fleet.store.enqueue(ready)
        for job, answer in zip(ready, answers, strict=True):
            if answer.status is EnqueueStatus.INSERTED:
                self.fleet.laws.enqueued(job)
            elif answer.status is EnqueueStatus.REPLACED:
                holder = self.fleet.laws.lives[answer.ref.id].job
                merged = msgspec.structs.replace(job, id=holder.id, unique=holder.unique)
                self.fleet.laws.replaced(answer.ref.id, merged)

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        """Pause or resume: exact once answered."""
        self._do(self._pause(queue, paused))

    async def _pause(self, queue: str, paused: bool) -> None:
        await self.fleet.store.pause(DEFAULT_TENANT, queue, paused)
        (self.fleet.laws.paused.add if paused else self.fleet.laws.paused.discard)(queue)

    @precondition(lambda self: self.enqueued)
    @rule(at=indexes, among=st.sampled_from([StoredState.WAITING, StoredState.RUNNING, StoredState.RUNNING]))
    def cancel(self, at: int, among: StoredState) -> None:
        """Ask for a job to be cancelled. Workers that are not cut off hear of it."""

        async def cancel() -> None:
            job_id, status = await self._change(at, CancelJobs(), among)
            if status in (ChangeStatus.CHANGED, ChangeStatus.REQUESTED):
                self.fleet.laws.cancel_asked(job_id)
            await self._beat(self.fleet.processes)

        self._do(cancel())

    @precondition(lambda self: self.enqueued)
    @rule(
        at=indexes,
        among=st.sampled_from([StoredState.DEAD, StoredState.CANCELLED, StoredState.COMPLETED, StoredState.WAITING]),
        delay_s=st.sampled_from([0.0, 0.0, STEP_S]),
    )
    def retry(self, at: int, among: StoredState, delay_s: float) -> None:
        """Retry a job by hand."""

        async def retry() -> None:
            job_id, status = await self._change(at, RetryJobs(delay_s=delay_s), among)
            if status is ChangeStatus.CHANGED:
                self.fleet.laws.retried(job_id)

        self._do(retry())

    async def _change(self, at: int, change: Change, among: StoredState) -> tuple[str, ChangeStatus]:
        memory = self.fleet.store.memory
        rows = (*memory.live.values(), *memory.past.values())
        ids = sorted(row.job.id for row in rows if row.state is among) or sorted(self.fleet.laws.lives)
        job_id = ids[at % len(ids)]
        # The line is told before anything else can happen: the store of this test answers at once.
        (changed,) = await self.fleet.store.change(Selection(DEFAULT_TENANT, (job_id,)), change)
        return job_id, changed.status

    # -- time and upkeep --------------------------------------------------------------------------------------

    @rule(steps=st.sampled_from([1, 1, 3, 12, 40]), healthy=st.lists(st.booleans(), min_size=3, max_size=3))
    def advance(self, steps: int, healthy: list[bool]) -> None:
        """Let time pass; healthy workers beat meanwhile, the others' leases may run out."""
        beating = [process for process, beats in zip(self.fleet.processes, healthy, strict=False) if beats]
        self._do(self._advance(steps * STEP_S + 1.0, beating))

    async def _advance(self, seconds: float, beating: list[Process]) -> None:
        while seconds > 0:
            piece_s = min(seconds, LEASE_S / 2)
            self.fleet.advance(piece_s)
            seconds -= piece_s
            await self._beat(beating)

    async def _beat(self, processes: list[Process]) -> None:
        for process in processes:
            if not process.line.cut:
                await process.beat()

    @rule(
        duty=st.sampled_from([Duty.ORPHANS, Duty.ORPHANS, Duty.EXPIRED, Duty.EXPIRED, Duty.ORPHANS_FULL, Duty.WORKERS])
    )
    def sweep(self, duty: Duty) -> None:
        """Do an upkeep."""
        self._do(self._sweep(duty))

    async def _sweep(self, duty: Duty) -> None:
        before = self._fences()
        await self.fleet.store.sweep(duty, 1000)
        for job_id, fence in self._fences().items():
            if fence != before[job_id]:
                self.fleet.laws.swept(job_id, expired=duty is Duty.EXPIRED)

    def _fences(self) -> dict[str, int]:
        memory = self.fleet.store.memory
        return {row.job.id: row.fence for row in (*memory.live.values(), *memory.past.values())}

    # -- the end ------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everything heal and come to its end: each acknowledged job is final."""
        try:
            if not self.failed:
                self._finish()
        finally:
            self.runner.run(self.fleet.close())
            self.runner.close()

    def _finish(self) -> None:
        self._do(self._heal())
        for _ in range(ROUNDS_MAX):
            if not self.fleet.laws.unfinished():
                return
            self._do(self._round())
        raise AssertionError(f"these never end: {self.fleet.laws.unfinished()}")

    async def _heal(self) -> None:
        fleet = self.fleet
        fleet.patient = False
        for key in fleet.hanging:
            fleet.tell(key, "return")
        for queue in QUEUES:
            await self._pause(queue, False)
        for process in fleet.processes:
            process.line.lose_answer = False
            process.line.set_cut(False)
        if not fleet.processes:
            fleet.start()

    async def _round(self) -> None:
        await self._advance(10 * STEP_S, self.fleet.processes)
        await self._beat(self.fleet.processes)
        for duty in (Duty.ORPHANS, Duty.ORPHANS_FULL, Duty.EXPIRED, Duty.WORKERS):
            await self._sweep(duty)

    # -- helpers ------------------------------------------------------------------------------------------------

    def _process(self, at: int) -> Process:
        return self.fleet.processes[at % len(self.fleet.processes)]

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        async def do() -> None:
            try:
                async with asyncio.timeout(STEP_MAX_S):
                    await work
            except TimeoutError:
                raise AssertionError(f"it never comes to its end: {self.fleet.laws.broken}") from None
            await self.fleet.quiet()
            lives = self.fleet.laws.lives
            self.fleet.laws.look(await self.fleet.store.get(DEFAULT_TENANT, list(lives)))

        try:
            self.runner.run(do())
        except BaseException as error:
            self.failed = True
            # What was noticed inside a worker, which goes on as after a bug, is the cause; what ended the step follows.
            broken = self.fleet.laws.broken
            self.failures.append(AssertionError("\n".join([*broken, str(error)])) if broken else error)
            raise
