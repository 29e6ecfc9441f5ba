"""How an attempt runs: an async function on the loop, a plain one in a thread, either of them in a process, or as part
of a batch."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from typing import TYPE_CHECKING, Final

from goqueue.engine.batches import BatchCall, Batches
from goqueue.engine.executors import aio
from goqueue.engine.executors.processes import ProcessExecutor
from goqueue.engine.executors.threads import HandlerRaised, ThreadExecutor
from goqueue.engine.journal import NullJournal
from goqueue.engine.pools import Pool, Pools
from goqueue.engine.running import NO_SLOT
from goqueue.engine.verdict import Stop, overdue
from goqueue.tasks import onion
from goqueue.tasks.context import Context, in_handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from goqueue.engine.completion import Completer
    from goqueue.engine.executors import wire
    from goqueue.engine.executors.process import HandlerProcess
    from goqueue.engine.journal import JobJournal
    from goqueue.engine.running import Running
    from goqueue.model.outcome import Outcome
    from goqueue.settings import WorkerSettings
    from goqueue.tasks.app import AnyTask
    from goqueue.tasks.context import ContextPort
    from goqueue.tasks.onion import Layers

LATE_S: Final = 0.005
"""Timers may ring a little early; then it would not be too late yet."""


class Attempts:
    """The executors of one process. ``finish`` hears what a handler returned or raised, ``decide`` takes an outcome
    that is judged already, ``interrupt`` is called when the time of an attempt is over, ``give_up`` when that has not
    ended it. ``full`` tells whether all slots are taken.

    With ``threads`` of the caller's, plain functions run there, and nothing runs in another process: for tests."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        port: ContextPort,
        layers: Layers,
        journal: JobJournal | None,
        app_ref: str,
        completer: Completer | None,
        threads: ThreadExecutor | None = None,
        finish: Callable[[Running, object, BaseException | None], object],
        decide: Callable[[Running, Outcome], None],
        interrupt: Callable[[Running, Stop], None],
        give_up: Callable[[Running], None],
        full: Callable[[], bool],
    ) -> None:
        self.state: object = None
        self._port = port
        self._layers = layers
        self._async = self._run_async_inside if layers else self._run_async
        self._note_start = (journal or NullJournal()).start
        self._finish = finish
        self._decide = decide
        self._interrupt = interrupt
        self._give_up = give_up
        self._grace_s = settings.cancel_grace_s
        self._loop = asyncio.get_running_loop()
        self._apart = threads is None
        self._threads = threads or ThreadExecutor(min(settings.threads, settings.concurrency))
        self._thread_pool = Pool(self._threads.threads_max, ahead_max=settings.concurrency)
        self._processes = ProcessExecutor(settings, app_ref, completer)
        self._process_pool = Pool(settings.child_processes, ahead_max=settings.concurrency)
        self.pools = Pools(self._thread_pool, self._process_pool)
        self._context = contextvars.copy_context()
        self._context.run(in_handler.set, True)
        self._batches = Batches(
            loop=self._loop,
            threads=self._threads,
            pool=self._thread_pool,
            inherited=self._context,
            begin=self._begin,
            finish=finish,
            linger=self.linger,
            full=full if self._apart else lambda: True,  # where jobs come one by one, there is nothing to wait for
            context=lambda lease: Context(lease, port, self.state),
            layers=layers,
        )

    def start(self, run: Running) -> None:
        """Start its handler, or let it wait for a thread or process."""
        task = run.task
        if self._apart and (task.run_in == "process" or run.alone):
            work = self._run_in_process(run)
        elif task.is_async:
            work = self._async(run)
        elif task.batch is None:
            work = self._run_in_thread(run)
        else:
            self._batches.gather(run)
            self._limit_wait(run)
            return
        run.job = aio.start(self._loop, work, self._context.copy())
        lease = run.lease
        if lease.start_in_s is not None or lease.deadline_in_s is not None:
            self._limit_wait(run)

    def surplus(self) -> list[Running]:
        """Look, a few times a second, and return what should be given back: it waits for a thread or a process, and
        will not start soon."""
        return [one for run in self.pools.look() for one in self._batches.queued_with(run)]

    def reaches(self, task: AnyTask) -> bool:
        """Tell whether a process of its own would find this task."""
        return self._processes.reaches(task)

    def tell(self, run: Running) -> None:
        """Tell its handler to stop: ``run.stop`` says why."""
        if run.child is not None:
            run.child.halt(run.lease, run.stop.name)
        elif isinstance(run.call, BatchCall):
            self._batches.tell(run, run.call)
        elif run.job is not None and run.call is None:
            run.job.cancel()  # a thread cannot be interrupted: its handler looks at ctx.cancelled

    def linger(self, run: Running) -> None:
        """Give its handler, which was told to stop, a moment to end."""
        run.timer = self._loop.call_later(self._grace_s, self._give_up, run)

    def kill(self, run: Running) -> bool:
        """Kill the process of its handler. False if it has none."""
        if run.child is None or run.job is None:
            return False
        run.job.cancel()
        return True

    def note_hung(self, run: Running, hung: set[Running | BatchCall]) -> None:
        """Keep in ``hung``, for as long as it hangs, what this one's handler is now that it was given up: itself, or
        the one call that it shares with others, once that works for none of them."""
        if run.job is None or run.job.done():
            return
        one = run.call if isinstance(run.call, BatchCall) else run
        if one.job is not None and (not isinstance(one, BatchCall) or all(other.decided for other in one.runs)):
            hung.add(one)
            one.job.add_done_callback(lambda _: hung.discard(one))

    def replace(self, run: Running) -> None:
        """Do without the thread of its handler, which hangs."""
        if isinstance(run.call, BatchCall):
            self._batches.replace(run.call)
        elif run.call is not None and self._threads.give_up(run.call):
            run.gave_slot = True
            self._thread_pool.release()

    async def close(self) -> None:
        """End the executors. Idempotent."""
        self._batches.close()
        self._threads.close()
        await self._processes.close()

    # -- the three ways to run --------------------------------------------------------------------

    async def _run_async(self, run: Running) -> None:
        lease, task = run.lease, run.task
        function: Callable[..., Awaitable[object]] = task.function  # type: ignore[assignment] # task.is_async says so
        try:
            if lease.timeout_s is None and lease.start_in_s is None and lease.deadline_in_s is None:
                run.slot = self._note_start(lease)  # as `_begin`, for the many that have no time of their own
            elif not self._begin(run):
                return
            arguments = task.decode(lease.args if task.version == 1 else task.lift(lease.args, lease.meta))
            if task.wants_context:
                returned = await function(Context(lease, self._port, self.state), **arguments)
            else:
                returned = await function(**arguments)
        except BaseException as error:
            self._finish(run, None, error)
        else:
            self._finish(run, returned, None)

    async def _run_async_inside(self, run: Running) -> None:
        """The same inside the application's middleware."""
        lease, task = run.lease, run.task
        try:
            if not self._begin(run):
                return
            ctx = Context(lease, self._port, self.state)
            function: Callable[..., Awaitable[object]] = task.call  # type: ignore[assignment] # task.is_async says so
            returned = await onion.call_async(
                self._layers, ctx, functools.partial(function, ctx, lease.args, lease.meta)
            )
        except BaseException as error:
            self._finish(run, None, error)
        else:
            self._finish(run, returned, None)

    async def _run_in_thread(self, run: Running) -> None:
        try:
            if not self._thread_pool.take():
                await self._thread_pool.wait(run)
            try:
                if not self._begin(run):
                    return
                function = self._inside(run) if self._layers else self._plain(run)
                run.call = call = self._threads.start(function, contextvars.copy_context())
                returned = await call.future
            finally:
                if not run.gave_slot:
                    self._thread_pool.release()
        except HandlerRaised as carried:
            self._finish(run, None, carried.error)
        except BaseException as error:
            self._finish(run, None, error)
        else:
            self._finish(run, returned, None)

    def _plain(self, run: Running) -> Callable[[], object]:
        lease, task = run.lease, run.task
        arguments = task.decode(lease.args if task.version == 1 else task.lift(lease.args, lease.meta))
        positional = (Context(lease, self._port, self.state),) if task.wants_context else ()
        return functools.partial(task.function, *positional, **arguments)

    def _inside(self, run: Running) -> Callable[[], object]:
        """The same inside the application's middleware, which sees arguments that cannot be decoded, too."""
        ctx = Context(run.lease, self._port, self.state)
        return functools.partial(
            onion.call, self._layers, ctx, functools.partial(run.task.call, ctx, run.lease.args, run.lease.meta)
        )

    async def _run_in_process(self, run: Running) -> None:
        try:
            if run.alone:
                done = await self._converse(run)
            else:
                if not self._process_pool.take():
                    await self._process_pool.wait(run)
                try:
                    done = await self._converse(run)
                finally:
                    self._process_pool.release()
        except BaseException as error:
            self._finish(run, None, error)
            return
        if done is None:
            return
        if run.stop.spoils and done.stop != run.stop.name:
            self._finish(run, None, None)  # it came to its end before it heard that this does not count any more
        else:
            self._decide(run, done.outcome)  # the process has judged it: it has the classes of its exceptions

    async def _converse(self, run: Running) -> wire.Done | None:
        if not self._may_start(run):
            return None
        return await self._processes.run(
            run.task,
            run.lease,
            port=self._port,
            claimed_at=run.claimed_at,
            started=functools.partial(self._started_in, run),
            completing=run.mark_completing,
            alone=run.alone,
        )

    def _started_in(self, run: Running, child: HandlerProcess) -> None:
        run.child = child
        run.slot = self._note_start(run.lease, apart=True)
        self._start_timer(run)

    # -- the time of an attempt -------------------------------------------------------------------

    def _may_start(self, run: Running) -> bool:
        """False if it is too late for that: then the job has its outcome."""
        lease = run.lease
        if lease.start_in_s is not None or lease.deadline_in_s is not None:
            late = overdue(lease, time.monotonic() - run.claimed_at)
            if late is not None:
                self._decide(run, late)
                return False
        return True

    def _limit_wait(self, run: Running) -> None:
        """See to it that what still waits for a thread, process or batch when its time is over waits no longer."""
        if run.slot != NO_SLOT or run.decided:
            return
        bounds = [left_s for left_s in (run.lease.start_in_s, run.lease.deadline_in_s) if left_s is not None]
        if bounds:
            left_s = max(0.0, run.claimed_at + min(bounds) - time.monotonic())
            run.timer = self._loop.call_later(left_s + LATE_S, self._too_late, run)

    def _too_late(self, run: Running) -> None:
        if not run.decided and run.slot == NO_SLOT and not self._may_start(run) and run.job is not None:
            run.job.cancel()

    def _begin(self, run: Running) -> bool:
        """Note that its handler starts now in this process. False if it is too late for that."""
        lease = run.lease
        if (lease.start_in_s is not None or lease.deadline_in_s is not None) and not self._may_start(run):
            return False
        run.slot = self._note_start(lease)
        if lease.timeout_s is not None or lease.deadline_in_s is not None or run.timer is not None:
            self._start_timer(run)
        return True

    def _start_timer(self, run: Running) -> None:
        lease = run.lease
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if lease.deadline_in_s is not None:
            left_s = max(0.0, run.claimed_at + lease.deadline_in_s - time.monotonic())
            if lease.timeout_s is None or left_s < lease.timeout_s:
                run.timer = self._loop.call_later(left_s, self._interrupt, run, Stop.DEADLINE)
                return
        if lease.timeout_s is not None:
            run.timer = self._loop.call_later(lease.timeout_s, self._interrupt, run, Stop.TIMEOUT)
