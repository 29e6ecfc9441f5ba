"""Runs leased jobs: which start, how they are interrupted, and what came of them."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.executors import aio
from goqueue.engine.executors.processes import ProcessExecutor
from goqueue.engine.executors.threads import HandlerRaised, ThreadCall, ThreadExecutor
from goqueue.engine.failure import HandlerHung
from goqueue.engine.report import report
from goqueue.engine.unknown import UnknownKinds
from goqueue.engine.verdict import COMPLETE, RELEASE, Stop, verdict
from goqueue.model.lease import Held
from goqueue.model.outcome import Complete, Settlement
from goqueue.tasks.context import Context, in_handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome
    from goqueue.settings import WorkerSettings
    from goqueue.tasks.app import AnyTask, GoQueue
    from goqueue.tasks.context import ContextPort

SLICE_S: Final = 0.004
"""Jobs are started for this long before other callbacks (beats, wake-ups, sockets) get their turn."""
HANG_S: Final = 5.0
"""A handler that has been told to stop may go on for this long before its slot is given to another."""

log = structlog.get_logger("goqueue.engine")


class Running:
    """One attempt between its start and its outcome."""

    __slots__ = ("call", "decided", "gave_slot", "job", "lease", "progress", "stop", "task", "timer")

    def __init__(self, lease: Lease, task: AnyTask) -> None:
        self.lease = lease
        self.task = task
        self.stop = Stop.NONE
        self.decided = False
        self.gave_slot = False
        self.progress: bytes | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.job: asyncio.Task[None] | None = None
        self.call: ThreadCall | None = None


class Runner:
    """Holds the leases of one process: those that wait for a slot, and those that run.

    ``settle`` takes each outcome; ``returns`` hears before of those that may put their job off. ``wake`` is called
    when nothing more will happen soon by itself: the moment to settle and to claim. ``crowded`` is called when as many
    handlers hang as there are slots. Everything here happens on the event loop except what `Context` asks from other
    threads.
    """

    def __init__(
        self,
        app: GoQueue,
        settings: WorkerSettings,
        *,
        settle: Callable[[Settlement], None],
        returns: Callable[[Settlement], None],
        wake: Callable[[], None],
        crowded: Callable[[], None],
        port: ContextPort,
        hang_s: float = HANG_S,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self.state: object = None
        self.running: dict[str, Running] = {}
        self.hung: set[Running] = set()
        self.finished = 0
        self.stopping = False
        self._settings = settings
        self._tasks = app.tasks
        self._settle = settle
        self._returns = returns
        self._wake = wake
        self._crowded = crowded
        self._port = port
        self._hang_s = hang_s
        self._random01 = random01
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Lease] = deque()
        self._turn_due = False
        self._finished_seen = 0
        self._unknown = UnknownKinds(settings)
        threads = min(settings.threads, settings.concurrency)
        self._threads = ThreadExecutor(threads)
        self._thread_slots = asyncio.Semaphore(threads)
        self._processes = ProcessExecutor(settings.child_processes)
        self._context = contextvars.copy_context()
        self._context.run(in_handler.set, True)
        self.quiet = asyncio.Event()
        """Set while nothing runs and nothing waits for a slot."""
        self.quiet.set()

    # -- leases in --------------------------------------------------------------------------------

    def add(self, leases: Iterable[Lease]) -> None:
        """Take over new leases; they start in this order as slots become free."""
        if self.stopping:
            for lease in leases:
                self._hand_back(lease)
        else:
            self._waiting.extend(leases)
        self._take_turn_soon()

    @property
    def room(self) -> int:
        """How many more leases may be claimed."""
        settings = self._settings
        surplus = max(0, len(self.hung) - settings.concurrency)  # with that many hung handlers, slots are not replaced
        held = len(self.running) + len(self._waiting) + surplus
        return settings.concurrency + settings.prefetch_jobs - held

    @property
    def busy(self) -> bool:
        """Whether more will have happened by the loop's next turn."""
        return self._turn_due

    @property
    def waiting(self) -> int:
        """Leases that wait for a slot."""
        return len(self._waiting)

    # -- turns ------------------------------------------------------------------------------------

    def _take_turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Start what there are slots for. While handlers finish by themselves the next turn follows at once."""
        self._turn_due = False
        started = self._fill()
        moved = started > 0 or self.finished != self._finished_seen
        self._finished_seen = self.finished
        if self.running or self._waiting:
            self.quiet.clear()
        else:
            self.quiet.set()
        if moved:
            self._take_turn_soon()
        self._wake()

    def _fill(self) -> int:
        waiting, running, concurrency = self._waiting, self.running, self._settings.concurrency
        until = time.monotonic() + SLICE_S
        started = 0
        while waiting and len(running) < concurrency:
            self._start(waiting.popleft())
            started += 1
            if not started & 15 and time.monotonic() > until:
                self._take_turn_soon()
                break
        return started

    def _start(self, lease: Lease) -> None:
        task = self._tasks.get(lease.kind)
        if task is None:
            self._decide(lease, self._unknown.snooze(lease))
            return
        if lease.id in self.running:
            self._give_up(self.running[lease.id])  # lost, then claimed again here before its handler had stopped
        run = Running(lease, task)
        self.running[lease.id] = run
        if task.run_in == "process":
            work = self._run_in_process(run)
        elif task.is_async:
            work = self._run_async(run)
        else:
            work = self._run_in_thread(run)
        run.job = aio.start(self._loop, work, self._context.copy())

    # -- the three ways to run --------------------------------------------------------------------

    async def _run_async(self, run: Running) -> None:
        lease, task = run.lease, run.task
        function: Callable[..., Awaitable[object]] = task.function  # type: ignore[assignment] # task.is_async says so
        try:
            arguments = task.decode(lease.args)
            if lease.timeout_s is not None:
                self._start_timer(run, lease.timeout_s)
            if task.wants_context:
                returned = await function(Context(lease, self._port, self.state), **arguments)
            else:
                returned = await function(**arguments)
        except BaseException as error:
            self._finish(run, None, error)
        else:
            self._finish(run, returned, None)

    async def _run_in_thread(self, run: Running) -> None:
        lease, task = run.lease, run.task
        try:
            arguments = task.decode(lease.args)
            await self._thread_slots.acquire()
            try:
                if lease.timeout_s is not None:
                    self._start_timer(run, lease.timeout_s)
                positional = (Context(lease, self._port, self.state),) if task.wants_context else ()
                function = functools.partial(task.function, *positional, **arguments)
                run.call = self._threads.start(function, contextvars.copy_context())
                returned = await run.call.future
            finally:
                if not run.gave_slot:
                    self._thread_slots.release()
        except HandlerRaised as carried:
            self._finish(run, None, carried.error)
        except BaseException as error:
            self._finish(run, None, error)
        else:
            self._finish(run, returned, None)

    async def _run_in_process(self, run: Running) -> None:
        lease = run.lease
        try:
            started = None if lease.timeout_s is None else functools.partial(self._start_timer, run, lease.timeout_s)
            outcome = await self._processes.run(run.task, lease, port=self._port, started=started)
        except BaseException as error:
            self._finish(run, None, error)
        else:
            if self._end(run):  # the process has judged it: it has the classes of its exceptions
                self._decide(lease, outcome)

    # -- interruptions ----------------------------------------------------------------------------

    def _start_timer(self, run: Running, timeout_s: float) -> None:
        run.timer = self._loop.call_later(timeout_s, self._interrupt, run, Stop.TIMEOUT)

    def _interrupt(self, run: Running, stop: Stop) -> None:
        if run.decided or run.stop is not Stop.NONE:
            return
        run.stop = stop
        if run.timer is not None:
            run.timer.cancel()
        run.timer = self._loop.call_later(self._hang_s, self._give_up, run)
        if run.job is not None and run.call is None:
            run.job.cancel()  # a thread cannot be interrupted: its handler looks at ctx.cancelled

    def _give_up(self, run: Running) -> None:
        """Stop waiting for a handler that was told to stop and goes on. Its slot is free, its outcome is decided."""
        if run.decided:
            return
        stack = run.call.stack() if run.call is not None else _stack(run.job)
        log.error("abandon", job_id=run.lease.id, kind=run.lease.kind, stop=run.stop.name.lower(), stack=stack)
        self._finish(run, None, HandlerHung(f"still running {self._hang_s:g} s after it was told to stop\n{stack}"))
        if run.job is not None and not run.job.done():
            self.hung.add(run)
            run.job.add_done_callback(lambda _: self.hung.discard(run))
        if run.call is not None and self._threads.give_up(run.call):
            run.gave_slot = True
            self._thread_slots.release()
        if len(self.hung) >= self._settings.concurrency:
            self._crowded()

    def cancel(self, held: Iterable[Held]) -> None:
        """Tell the handlers of these leases that somebody wants their jobs cancelled."""
        for run in self._find(held):
            self._interrupt(run, Stop.CANCEL)

    def lose(self, held: Iterable[Held]) -> None:
        """Stop what the store says is no longer ours; its outcomes would be refused."""
        held = list(held)
        if not held:
            return
        log.warning("lose", jobs=len(held), job_ids=[one.ref.id for one in held[:10]])
        lost = {(one.ref.id, one.fence) for one in held}
        self._waiting = deque(lease for lease in self._waiting if (lease.id, lease.fence) not in lost)
        for run in self._find(held):
            self._interrupt(run, Stop.HAND_BACK)
        self._take_turn_soon()

    def _find(self, held: Iterable[Held]) -> list[Running]:
        """Since the beat was sent, a job may have ended here and been claimed again: the fence tells."""
        runs = ((one, self.running.get(one.ref.id)) for one in held)
        return [run for one, run in runs if run is not None and run.lease.fence == one.fence]

    # -- leases out -------------------------------------------------------------------------------

    def hand_back_waiting(self) -> int:
        """Give back what has not started, and tell how many."""
        waiting, self._waiting = self._waiting, deque()
        for lease in waiting:
            self._hand_back(lease)
        self._take_turn_soon()
        return len(waiting)

    def hand_back_running(self) -> int:
        """Tell all handlers to stop because their jobs are given back, and tell how many."""
        runs = list(self.running.values())
        for run in runs:
            self._interrupt(run, Stop.HAND_BACK)
        return len(runs)

    def abandon_running(self) -> None:
        """Give back at once what still runs: there is no more time to wait for handlers to stop."""
        for run in list(self.running.values()):
            self._interrupt(run, Stop.HAND_BACK)
            self._give_up(run)

    def held(self) -> tuple[Held, ...]:
        """List all leases for a beat, with the progress that is new."""
        return (
            *(Held(run.lease.ref, run.lease.fence, run.progress) for run in self.running.values()),
            *(Held(lease.ref, lease.fence) for lease in self._waiting),
        )

    def progress_sent(self, held: Iterable[Held]) -> None:
        """Forget the progress that a beat has brought to the store."""
        for one in held:
            if one.progress is not None:
                run = self.running.get(one.ref.id)
                if run is not None and run.progress is one.progress:
                    run.progress = None

    async def close(self) -> None:
        """End the executors. Idempotent."""
        self._threads.close()
        await self._processes.close()

    # -- outcomes ---------------------------------------------------------------------------------

    def _finish(self, run: Running, returned: object, raised: BaseException | None) -> None:
        if not self._end(run):
            return
        lease, task = run.lease, run.task
        outcome = verdict(
            returned,
            raised,
            lease=lease,
            task=task,
            policy=task.retry,
            stop=run.stop,
            random01=self._random01() if raised is not None else 0.5,
        )
        self._decide(lease, outcome)

    def _end(self, run: Running) -> bool:
        """Free its slot. False if it was given up before: the job has its outcome already."""
        if run.decided:
            return False
        run.decided = True
        if run.timer is not None:
            run.timer.cancel()
        del self.running[run.lease.id]
        return True

    def _hand_back(self, lease: Lease) -> None:
        self._decide(lease, RELEASE)

    def _decide(self, lease: Lease, outcome: Outcome) -> None:
        settlement = Settlement(lease.ref, lease.fence, outcome)
        if outcome is not COMPLETE and type(outcome) is not Complete:
            report(lease, outcome)
            self._returns(settlement)
        self._settle(settlement)
        self.finished += 1
        if not self._turn_due:
            self._take_turn_soon()


def _stack(job: asyncio.Task[None] | None) -> str:
    if job is None:
        return ""
    frames: list[str] = []
    awaited: object = job.get_coro()
    while awaited is not None and len(frames) < 40:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        frames.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}\n')
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(frames)
