"""Batched handlers: jobs of one kind gather for a moment, then one call of their function is the attempt of each.

Each job keeps what it has by itself: its slot, its place in the journal, its timers, its outcome. Only the call is
shared. It begins when as many have gathered as it may have, when the first of them has waited for as long as it may,
or when no slot is left, so that nothing more can come. What gathers has not started: a stop gives it back unspent.
"""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, cast

from goqueue.engine.executors import aio
from goqueue.engine.executors.threads import HandlerRaised
from goqueue.engine.running import stack_of
from goqueue.tasks import onion
from goqueue.tasks.batch import BatchContext, BatchTask, results_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence

    from goqueue.engine.executors.threads import ThreadCall, ThreadExecutor
    from goqueue.engine.pools import Pool
    from goqueue.engine.running import Running
    from goqueue.model.lease import Lease
    from goqueue.tasks.context import Context
    from goqueue.tasks.onion import Layers


class _Group:
    """Jobs of one kind that gather."""

    __slots__ = ("runs", "task", "timer")

    def __init__(self, task: BatchTask[object, object]) -> None:
        self.task = task
        self.runs: list[Running] = []
        self.timer: asyncio.TimerHandle | None = None


class BatchCall:
    """One call, and the attempts that it is. In `Running.call` of each once it has begun."""

    __slots__ = ("gave_slot", "job", "opened", "runs", "task", "thread", "told")

    def __init__(self, task: BatchTask[object, object], runs: list[Running]) -> None:
        self.task = task
        self.runs = runs
        """Those that have gathered; from its begin on, those that take part."""
        self.opened: dict[Running, onion.Opened] = {}
        """The middleware around each, if there is any."""
        self.told = 0
        """How many of them were told to stop."""
        self.job: asyncio.Task[None] | None = None
        self.thread: ThreadCall | None = None
        self.gave_slot = False

    def stack(self) -> str:
        """Return where its function is now; "" if that cannot be seen."""
        return self.thread.stack() if self.thread is not None else stack_of(self.job)


class Batches:
    """Gathers and calls, on the loop's thread.

    ``begin`` starts the attempt of one job (False: it was too late for that, and has its outcome), ``finish`` hears how
    it ended, ``linger`` gives one that was told to stop its last time. ``full``: no slot is left. ``context`` makes the
    context of one job; ``layers`` go around each of them.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadExecutor,
        pool: Pool,
        inherited: contextvars.Context,
        begin: Callable[[Running], bool],
        finish: Callable[[Running, object, BaseException | None], object],
        linger: Callable[[Running], None],
        full: Callable[[], bool],
        context: Callable[[Lease], Context[object]],
        layers: Layers,
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._pool = pool
        self._inherited = inherited
        self._begin = begin
        self._finish = finish
        self._linger = linger
        self._full = full
        self._context = context
        self._layers = layers
        self._gathering: dict[str, _Group] = {}
        self._calls: set[BatchCall] = set()
        self._queued: dict[Running, BatchCall] = {}
        """Calls that wait for a thread, by the job that stands in the queue for all of it."""

    # -- gathering --------------------------------------------------------------------------------

    def gather(self, run: Running) -> None:
        """Let it wait for others of its kind, and begin a call if it is the last."""
        task = cast("BatchTask[object, object]", run.task)
        run.job = self._loop.create_future()
        group = self._gathering.get(task.kind)
        if group is None:
            group = self._gathering[task.kind] = _Group(task)
            group.timer = self._loop.call_later(task.batch.max_wait_s, self._go, group)
        group.runs.append(run)
        if len(group.runs) >= task.batch.max_size:
            group.runs = [one for one in group.runs if not one.decided]  # some were handed back or cancelled meanwhile
        if len(group.runs) >= task.batch.max_size or self._full():
            self._go(group)

    def _go(self, group: _Group) -> None:
        del self._gathering[group.task.kind]
        if group.timer is not None:
            group.timer.cancel()
        runs = [run for run in group.runs if not run.decided]
        if runs:
            call = BatchCall(group.task, runs)
            self._calls.add(call)
            work = self._call_async(call) if group.task.calls_async else self._call_in_thread(call)
            call.job = aio.start(self._loop, work, self._inherited.copy())

    def queued_with(self, run: Running) -> list[Running]:
        """Return those that wait for a thread together with this one: itself, unless it is one of a batch."""
        call = self._queued.get(run)
        if call is None:
            return [run]
        left = [one for one in call.runs if not one.decided]
        if not left and call.job is not None:
            call.job.cancel()  # it waits for nobody
        return left

    def close(self) -> None:
        """Gather no more. Idempotent."""
        for group in self._gathering.values():
            if group.timer is not None:
                group.timer.cancel()
        self._gathering.clear()
        for run in list(self._queued):
            self.queued_with(run)

    # -- the call ---------------------------------------------------------------------------------

    async def _call_async(self, call: BatchCall) -> None:
        returned: object = None
        raised: BaseException | None = None
        try:
            if arguments := self._begin_all(call):
                returned = await cast("Coroutine[object, object, object]", call.task.function(*arguments))
        except BaseException as error:
            raised = error
        self._conclude(call, returned, raised)

    async def _call_in_thread(self, call: BatchCall) -> None:
        returned: object = None
        raised: BaseException | None = None
        try:
            if not self._pool.take():
                await self._wait_for_thread(call)
            try:
                if arguments := self._begin_all(call):
                    function = functools.partial(call.task.function, *arguments)
                    call.thread = self._threads.start(function, contextvars.copy_context())
                    returned = await call.thread.future
            finally:
                if not call.gave_slot:
                    self._pool.release()
        except HandlerRaised as carried:
            raised = carried.error
        except BaseException as error:
            raised = error
        self._conclude(call, returned, raised)

    async def _wait_for_thread(self, call: BatchCall) -> None:
        first = call.runs[0]
        self._queued[first] = call
        try:
            await self._pool.wait(first)
        finally:
            del self._queued[first]

    def _begin_all(self, call: BatchCall) -> list[object]:
        """Begin the attempts of all that still may, and return the arguments of the call; none if nobody is left.

        An item that cannot be decoded is the failed attempt of that job alone, and so is what its middleware raises.
        That is entered here, job by job, and left in `_end`: the call itself has the context variables of all of them.
        """
        runs, items = [], []
        for run in call.runs:
            if run.decided:
                continue
            if not self._begin(run):
                _let_go(run)
                continue
            run.call = call
            try:
                self._enter(call, run)
                items.append(call.task.decode_item(run.lease.args))
            except BaseException as error:  # a model's own validator may raise anything
                self._end(call, run, None, error)
            else:
                runs.append(run)
        call.runs = runs
        if not runs:
            return []
        if not call.task.wants_batch_context:
            return [items]
        contexts = [self._context(run.lease) for run in runs]
        return [BatchContext(contexts[0].state, contexts), items]

    def _conclude(self, call: BatchCall, returned: object, raised: BaseException | None) -> None:
        """Give each its own result, or error."""
        self._calls.discard(call)
        results: Sequence[object] = ()
        if raised is None and call.runs:
            try:
                results = results_of(returned, len(call.runs))
            except Exception as error:
                raised = error
        for nth, run in enumerate(call.runs):
            result = raised if raised is not None else results[nth]
            if isinstance(result, BaseException):
                self._end(call, run, None, result)
            else:
                self._end(call, run, result, None)

    def _enter(self, call: BatchCall, run: Running) -> None:
        if self._layers:
            opened = call.opened[run] = []
            raised = onion.enter(self._layers, self._context(run.lease), opened)
            if raised is not None:
                raise raised

    def _end(self, call: BatchCall, run: Running, returned: object, raised: BaseException | None) -> None:
        """Leave its middleware, and tell how its attempt ended."""
        if (opened := call.opened.pop(run, None)) is not None:
            try:
                returned, raised = onion.leave(opened, returned, raised), None
            except BaseException as error:
                returned, raised = None, error
        self._finish(run, returned, raised)
        _let_go(run)

    # -- interruptions ----------------------------------------------------------------------------

    def tell(self, run: Running, call: BatchCall) -> None:
        """One of its jobs shall stop. Its context says so; the call goes on for the others, and is cancelled with the
        last of them."""
        call.told += 1
        if call.told < len(call.runs):
            if not run.stop.spoils and run.timer is not None:
                run.timer.cancel()  # its handler works on others: it is not late
                run.timer = None
            return
        for one in call.runs:
            if not one.decided and one.timer is None:
                self._linger(one)
        if call.thread is None and call.job is not None:
            call.job.cancel()  # a thread cannot be interrupted: its handler looks at ctx.cancelled

    def replace(self, call: BatchCall) -> None:
        """Do without the thread of a call that hangs, when nobody waits for it any more."""
        if call.thread is None or call.gave_slot or not all(run.decided for run in call.runs):
            return
        if self._threads.give_up(call.thread):
            call.gave_slot = True
            self._pool.release()


def _let_go(run: Running) -> None:
    """Nothing works on this attempt any more, whoever had given it up before."""
    if run.job is not None and not run.job.done():
        run.job.set_result(None)
