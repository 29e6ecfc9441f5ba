"""Runs leased jobs: which start, how they are interrupted, and what came of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from goqueue.engine import news
from goqueue.engine.attempts import Attempts
from goqueue.engine.failure import HandlerHung
from goqueue.engine.journal import NullJournal
from goqueue.engine.report import Reporter
from goqueue.engine.running import NO_SLOT, Running
from goqueue.engine.suspects import Suspects
from goqueue.engine.unknown import UnknownKinds
from goqueue.engine.verdict import CANCELLED, COMPLETE, RELEASE, Stop
from goqueue.model.outcome import Complete, Settlement
from goqueue.tasks import onion
from goqueue.tasks.versions import MARK, version_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from goqueue.engine.batches import BatchCall
    from goqueue.engine.completion import Completer
    from goqueue.engine.executors.threads import ThreadExecutor
    from goqueue.engine.journal import JobJournal
    from goqueue.model.job import JobRef
    from goqueue.model.lease import Held, Lease
    from goqueue.model.outcome import Note, Outcome
    from goqueue.settings import WorkerSettings
    from goqueue.tasks.app import GoQueue
    from goqueue.tasks.context import ContextPort

SLICE_S: Final = 0.004
"""Jobs are started for this long before other callbacks (beats, wake-ups, sockets) get their turn."""

log = structlog.get_logger("goqueue.engine")


class Runner:
    """Holds the leases of one process: those that wait for a slot, and those that run.

    ``settle`` takes each outcome; ``returns`` hears before of those that may put their job off, ``doubt`` of those
    whose jobs may be completed (`ctx.complete_in`), with what to call if they are not. ``wake`` is called when nothing
    more will happen soon by itself: the moment to settle and to claim. ``crowded`` is called when ``hung_max`` handlers
    hang. ``journal`` outlives this process, and tells handlers in it from those in children.
    ``app_ref`` (``module:attribute``) lets children enter the application. ``threads``: as for `Attempts`.
    Everything here happens on the event loop except what `Context` asks from other threads.
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
        journal: JobJournal | None = None,
        app_ref: str | None = None,
        completer: Completer | None = None,
        doubt: Callable[[Settlement, Callable[[], None]], None] | None = None,
        threads: ThreadExecutor | None = None,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self.running: dict[str, Running] = {}
        self.hung: set[Running | BatchCall] = set()
        self.finished = 0
        self.stopping = False
        self._settings = settings
        self._tasks = app.runs
        self._settle = settle
        self._returns = returns
        self._doubt = doubt
        self._wake = wake
        self._crowded = crowded
        self._note_end = (journal or NullJournal()).end
        self._hung_max = settings.hung_max or settings.concurrency
        self._random01 = random01
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Lease, float]] = deque()
        self._turn_due = False
        self._finished_seen = 0
        self._unknown = UnknownKinds(settings)
        self._attempts = Attempts(
            settings,
            port=port,
            layers=onion.around_run(app.middleware),
            journal=journal,
            app_ref=app_ref or "",
            completer=completer,
            threads=threads,
            finish=self._finish,
            decide=self._decide_run,
            interrupt=self._interrupt,
            give_up=self._give_up,
            full=lambda: self.slots_taken >= settings.concurrency,
        )
        self._pools = self._attempts.pools
        self._suspects = Suspects(settings, app.runs, self._attempts.reaches)
        self._reporter = Reporter(self._loop)
        self.quiet = asyncio.Event()
        """Set while nothing runs and nothing waits for a slot."""
        self.quiet.set()

    # -- leases in --------------------------------------------------------------------------------

    def add(self, leases: Iterable[Lease], claimed_at: float | None = None) -> None:
        """Take over new leases; they start in this order as slots become free.

        ``claimed_at`` is when they were asked for, by the monotonic clock: their own times count from there.
        """
        if self.stopping:
            self.refuse(leases)
        else:
            at = time.monotonic() if claimed_at is None else claimed_at
            for lease in leases:
                if not (lease.crashes and self._suspects.takes(lease)):
                    self._waiting.append((lease, at))
                elif (put_off := self._suspects.add(lease, at)) is not None:
                    self._decide(lease, put_off)
        self._take_turn_soon()

    def refuse(self, leases: Iterable[Lease]) -> None:
        """Give these back at once."""
        for lease in leases:
            self._decide(lease, RELEASE)

    @property
    def room(self) -> int:
        """How many more leases may be claimed."""
        settings = self._settings
        surplus = max(0, len(self.hung) - self._hung_max)  # with that many hung handlers, slots are not replaced
        free = settings.concurrency - self.slots_taken - self.slots_wanted
        apart = self._suspects.running + len(self._suspects.waiting)
        # However many run alone or wait for that, they leave no slot empty.
        return self._pools.limit(max(free, free + settings.prefetch_jobs - apart) - surplus)

    @property
    def busy(self) -> bool:
        """Whether more will have happened by the loop's next turn."""
        return self._turn_due

    @property
    def waiting(self) -> int:
        """Leases that wait for a slot."""
        return len(self._waiting) + len(self._suspects.waiting)

    @property
    def slots_taken(self) -> int:
        """How many run in the slots: not those that run alone."""
        return len(self.running) - self._suspects.running

    @property
    def slots_wanted(self) -> int:
        """How many wait for a slot: not those that wait to run alone."""
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
        if self.running or self.waiting:
            self.quiet.clear()
        else:
            self.quiet.set()
        if moved:
            self._take_turn_soon()
        self._wake()

    def _fill(self) -> int:
        suspects = self._suspects
        started = self._fill_apart() if suspects.waiting else 0
        waiting, running = self._waiting, self.running
        running_max = self._settings.concurrency + suspects.running
        until = time.monotonic() + SLICE_S
        while waiting and len(running) < running_max:
            lease, claimed_at = waiting.popleft()
            self._start(lease, claimed_at)
            started += 1
            if not started & 15 and time.monotonic() > until:
                self._take_turn_soon()
                break
        return started

    def _start(self, lease: Lease, claimed_at: float, *, alone: bool = False) -> None:
        task = self._tasks.get(lease.kind)
        if task is None or (lease.meta is not None and MARK in lease.meta and version_in(lease.meta) > task.version):
            self._decide(lease, self._unknown.snooze(lease, task))
            return
        if lease.id in self.running:
            # Lost, then claimed again here before its handler had stopped.
            self._interrupt(self.running[lease.id], Stop.HAND_BACK)
            self._give_up(self.running.get(lease.id))
        if lease.timeout_s is None and task.timeout_s is not None:
            # Sent by somebody who does not know the task: over HTTP, from another language, before it had a timeout.
            lease = msgspec.structs.replace(lease, timeout_s=task.timeout_s)
        run = self.running[lease.id] = Running(lease, task, claimed_at)
        if alone:
            run.alone = True
            self._suspects.running += 1
        self._attempts.start(run)

    def _fill_apart(self) -> int:
        """Start jobs that have crashed before, each in a process of its own, whatever kind of handler it has."""
        started = 0
        while (one := self._suspects.next()) is not None:
            self._start(*one, alone=True)
            started += 1
        return started

    # -- interruptions ----------------------------------------------------------------------------

    def _interrupt(self, run: Running, stop: Stop) -> None:
        if run.decided or run.stop is not Stop.NONE:
            return
        run.stop = stop
        if run.slot == NO_SLOT and run.job is not None:
            # It waits for a thread, a process or a batch: its handler has not started, and will not.
            self._finish(run, None, asyncio.CancelledError())
            run.job.cancel()
            return
        if run.timer is not None:
            run.timer.cancel()
        self._attempts.linger(run)
        self._attempts.tell(run)

    def _give_up(self, run: Running | None) -> None:
        """Stop waiting for a handler that was told to stop and goes on. Its slot is free, its outcome is decided."""
        if run is None or run.decided:
            return
        told = {"job_id": run.lease.id, "kind": run.lease.kind, "stop": run.stop.name.lower()}
        hung = f"still running {self._settings.cancel_grace_s:g} s after it was told to stop"
        killed = self._attempts.kill(run)
        stack = "its process was killed" if killed else run.stack()
        outcome = self._finish(run, None, HandlerHung(f"{hung}\n{stack}"))
        log.error("kill" if killed else "abandon", **told, outcome=type(outcome).__name__.lower(), stack=stack)
        if killed:
            return
        self._attempts.note_hung(run, self.hung)
        self._attempts.replace(run)
        if len(self.hung) >= self._hung_max:
            self._crowded()

    def cancel(self, held: Iterable[Held]) -> None:
        """Tell the handlers of these leases that somebody wants their jobs cancelled. What waits does not start."""
        held = list(held)
        for lease in self._take_out({(one.ref.id, one.fence) for one in held}):
            self._decide(lease, CANCELLED)
        for run in self._find(held):
            self._interrupt(run, Stop.CANCEL)

    def lose(self, held: Iterable[Held]) -> None:
        """Stop what the store says is no longer ours; its outcomes would be refused."""
        # What was decided here since the beat was sent is not lost, nor what its handler has completed by itself.
        ours = {(run.lease.id, run.lease.fence) for run in self.running.values() if not run.completing}
        ours |= {(lease.id, lease.fence) for lease, _ in (*self._waiting, *self._suspects.waiting)}
        held = [one for one in held if (one.ref.id, one.fence) in ours]
        if not held:
            return
        log.warning("lose", jobs=len(held), job_ids=[one.ref.id for one in held[:10]])
        self._take_out({(one.ref.id, one.fence) for one in held})
        self._interrupt_all(self._find(held))
        self._take_turn_soon()

    def _take_out(self, keys: set[tuple[str, int]]) -> list[Lease]:
        """Take those with these ids and fences out of what waits for a slot, and return them."""
        queues = (*self._waiting, *self._suspects.waiting)
        found = [lease for lease, _ in queues if (lease.id, lease.fence) in keys]
        if found:
            self._waiting = deque(one for one in self._waiting if (one[0].id, one[0].fence) not in keys)
            self._suspects.drop(keys)
        return found

    def _find(self, held: Iterable[Held]) -> list[Running]:
        """Since the beat was sent, a job may have ended here and been claimed again: the fence tells."""
        runs = ((one, self.running.get(one.ref.id)) for one in held)
        return [run for one, run in runs if run is not None and run.lease.fence == one.fence]

    # -- leases out -------------------------------------------------------------------------------

    def hand_back_waiting(self) -> int:
        """Give back what has not started, and tell how many."""
        leases = [lease for lease, _ in self._waiting] + self._suspects.drain()
        self._waiting.clear()
        self.refuse(leases)
        # Those in slots that wait for a thread or a process have not started either.
        queued = self._interrupt_all(run for run in self.running.values() if run.slot == NO_SLOT)
        self._take_turn_soon()
        return len(leases) + queued

    def hand_back_last(self, count: int) -> int:
        """Give back up to ``count`` of those that would start last, and tell how many."""
        count = min(count, len(self._waiting))
        for _ in range(count):
            self._decide(self._waiting.pop()[0], RELEASE)
        return count

    def hand_back_queued(self) -> int:
        """Give back what waits for a thread or a process and will not get one soon, and tell how many."""
        handed_back = self._interrupt_all(self._attempts.surplus())
        self._wake()  # perhaps more may be claimed by now
        return handed_back

    def hand_back_running(self) -> int:
        """Tell all handlers to stop because their jobs are given back, and tell how many."""
        return self._interrupt_all(self.running.values())

    def _interrupt_all(self, runs: Iterable[Running]) -> int:
        runs = list(runs)
        for run in runs:
            self._interrupt(run, Stop.HAND_BACK)
        return len(runs)

    def abandon_running(self) -> None:
        """Give back at once what still runs: there is no more time to wait for handlers to stop."""
        for run in list(self.running.values()):
            self._interrupt(run, Stop.HAND_BACK)
            self._give_up(run)

    def held(self) -> tuple[Held, ...]:
        """List all leases for a beat, with what their handlers have said since the last one."""
        waiting = (lease for lease, _ in (*self._waiting, *self._suspects.waiting))
        return news.held(self.running.values(), waiting)

    def said(self, held: Iterable[Held], unkept: Collection[JobRef]) -> None:
        """Forget the progress and the lines that a beat has brought to the store."""
        news.said(self.running, held, unkept)

    async def close(self) -> None:
        """End the executors. Idempotent."""
        self._reporter.close()
        await self._attempts.close()

    # -- outcomes ---------------------------------------------------------------------------------

    def enter(self, state: object) -> None:
        """Take what the application's lifespan has yielded, before the first lease comes."""
        self._attempts.state = state

    def _decide_run(self, run: Running, outcome: Outcome) -> None:
        if self._end(run):
            self._decide(run.lease, outcome, run.note(), in_doubt=run.completing)

    def _finish(self, run: Running, returned: object, raised: BaseException | None) -> Outcome | None:
        """Judge it and let it go. None if it was decided before."""
        if not self._end(run):
            return None
        if returned is None and raised is None and run.stop is Stop.NONE and not run.completing:
            self._decide(run.lease, COMPLETE, run.note())  # what the verdict would be, and what most are
            return COMPLETE
        outcome = run.judge(returned, raised, self._random01())
        self._decide(run.lease, outcome, run.note(), in_doubt=run.completing)
        return outcome

    def _end(self, run: Running) -> bool:
        """Free its slot. False if it was given up before: the job has its outcome already."""
        if run.decided:
            return False
        run.decided = True
        if run.timer is not None:
            run.timer.cancel()
        if run.slot != NO_SLOT:
            self._note_end(run.slot)
        if run.alone:
            self._suspects.running -= 1
        del self.running[run.lease.id]
        return True

    def _decide(self, lease: Lease, outcome: Outcome, note: Note | None = None, *, in_doubt: bool = False) -> None:
        settlement = Settlement(lease.ref, lease.fence, outcome, note)
        if in_doubt and self._doubt is not None:
            self._doubt(settlement, partial(self._reporter.report, lease, outcome))
            self._returns(settlement)
        elif outcome is not COMPLETE and type(outcome) is not Complete:
            self._reporter.report(lease, outcome)
            self._returns(settlement)
        self._settle(settlement)
        self.finished += 1
        if not self._turn_due:
            self._take_turn_soon()
