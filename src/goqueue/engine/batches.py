"""Batched handlers: jobs of one kind gather for a moment, then one call of their function is the attempt of each.

Each job keeps what it has by itself: its slot, its place in the journal, its timers, its outcome. Only the call is
shared. It begins when as many have gathered as it may have, when the first of them has waited for as long as it may,
or when no slot is left, so that nothing more can come. What gathers has not started: a stop gives it back unspent.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from typing import TYPE_CHECKING, TypeAlias, cast

from goqueue.engine.executors import aio
from goqueue.engine.executors.threads import HandlerRaised
from goqueue.engine.running import stack_of
from goqueue.engine.verdict import Stop
from goqueue.tasks import onion
from goqueue.tasks.batch import BatchContext, BatchTask, results_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from goqueue.engine.executors.threads import ThreadCall, ThreadExecutor
    from goqueue.engine.pools import Pool
    from goqueue.engine.running import Running
    from goqueue.model.lease import Lease
    from goqueue.tasks.context import Context
    from goqueue.tasks.onion import Layers


_Given: TypeAlias = "tuple[object, BaseException | None]"
"""What a job's part of the call has returned, or raised."""

_Outcomes: TypeAlias = "list[tuple[Running, object, BaseException | None]]"
"""The same with the attempts."""


class _Group:
    """Jobs of one kind that gather."""

    __slots__ = ("runs", "task", "timer")

    def __init__(self, task: BatchTask[object, object]) -> None:
        self.task = task
        self.runs: list[Running] = []
        self.timer: asyncio.TimerHandle | None = None


class BatchCall:
    """One call, and the attempts that it is. In `Running.call` of each once it has begun."""

    __slots__ = ("gave_slot", "job", "runs", "task", "thread", "told")

    def __init__(self, task: BatchTask[object, object], runs: list[Running]) -> None:
        self.task = task
        self.runs = runs
        """Those that have gathered; from its begin on, those that take part."""
        self.told = 0
        """How many of them were told to stop."""
        self.job: asyncio.Task[None] | None = None
        self.thread: ThreadCall | None = None
        self.gave_slot = False

    def stack(self) -> str:
        """Return where its function is now; "" if that cannot be seen."""
        return self.thread.stack() if self.thread is not None else stack_of(self.job)


class _Item:
    """One job of a call, where the handler runs: inside the middleware, in a `contextvars.Context` of its own.

    So what one job's middleware sets is not seen by another's, nor by the handler, which works on all of them.
    """

    __slots__ = ("_layers", "_opened", "_variables", "ctx", "run", "value")

    def __init__(self, run: Running, ctx: Context[object], layers: Layers) -> None:
        self.run = run
        self.ctx = ctx
        self.value: object = None
        self._layers = layers
        self._opened: onion.Opened = []
        self._variables = contextvars.copy_context() if layers else None

    def open(self, task: BatchTask[object, object]) -> None:
        """Enter its middleware and decode it. Raises what they raise; to be closed then, too."""
        if self._variables is None:
            self.value = task.decode_item(self.run.lease.args)
        else:
            self._variables.run(self._open, task)

    def _open(self, task: BatchTask[object, object]) -> None:
        raised = onion.enter(self._layers, self.ctx, self._opened)
        if raised is not None:
            raise raised
        self.value = task.decode_item(self.run.lease.args)

    def close(self, returned: object, raised: BaseException | None) -> _Given:
        """Leave its middleware, and return what comes out of it."""
        if self._variables is None:
            return returned, raised
        try:
            return self._variables.run(onion.leave, self._opened, returned, raised), None
        except BaseException as error:
            return None, error


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
        outcomes: _Outcomes = []
        try:
            if runs := self._begin_all(call):
                outcomes = await self._work_async(call, runs)
        except BaseException as error:
            outcomes = [(run, None, error) for run in call.runs]
        self._conclude(call, outcomes)

    async def _call_in_thread(self, call: BatchCall) -> None:
        outcomes: _Outcomes = []
        try:
            if not self._pool.take():
                await self._wait_for_thread(call)
            try:
                if runs := self._begin_all(call):
                    work = functools.partial(self._work, call, runs)
                    call.thread = self._threads.start(work, contextvars.copy_context())
                    outcomes = cast("_Outcomes", await call.thread.future)
            finally:
                if not call.gave_slot:
                    self._pool.release()
        except BaseException as error:
            raised = error.error if isinstance(error, HandlerRaised) else error
            outcomes = [(run, None, raised) for run in call.runs]
        self._conclude(call, outcomes)

    async def _wait_for_thread(self, call: BatchCall) -> None:
        first = call.runs[0]
        self._queued[first] = call
        try:
            await self._pool.wait(first)
        finally:
            del self._queued[first]

    def _begin_all(self, call: BatchCall) -> list[Running]:
        """Begin the attempts of all that still may, and return them."""
        runs = []
        for run in call.runs:
            if run.decided:
                continue
            if not self._begin(run):
                _let_go(run)
                continue
            run.call = call
            runs.append(run)
        call.runs = runs
        return list(runs)

    def _conclude(self, call: BatchCall, outcomes: _Outcomes) -> None:
        """Give each its own result, or error."""
        self._calls.discard(call)
        failed: BaseException | None = None
        for run, returned, raised in outcomes:
            try:
                self._finish(run, returned, raised)
            except BaseException as error:  # the others have an outcome all the same
                failed = failed or error
            _let_go(run)
        if failed is not None:
            raise failed

    def _leave_out(self, call: BatchCall, run: Running, returned: object, raised: BaseException | None) -> None:
        """Give one its outcome while the call goes on with the others."""
        if run not in call.runs:
            return
        call.runs.remove(run)
        if run.stop is not Stop.NONE:
            call.told -= 1
        self._finish(run, returned, raised)
        _let_go(run)
        if call.runs and call.told == len(call.runs):
            self._stop(call)
            self.replace(call)

    # -- where the handler runs -------------------------------------------------------------------

    def _work(self, call: BatchCall, runs: list[Running]) -> _Outcomes:
        """Call a plain function inside the middleware of all, in its thread. Raises nothing."""
        items, outcomes = self._open_all(call, runs)
        if not items:
            return outcomes
        try:
            results = _split(call.task.function(*_arguments(call, items)), len(items))
        except BaseException as error:
            return outcomes + _close_all(items, [(None, error)] * len(items))
        return outcomes + _close_all(items, results)

    async def _work_async(self, call: BatchCall, runs: list[Running]) -> _Outcomes:
        """The same for an async one, on the loop."""
        items, outcomes = self._open_all(call, runs)
        if not items:
            return outcomes
        try:
            made = cast("Coroutine[object, object, object]", call.task.function(*_arguments(call, items)))
            results = _split(await made, len(items))
        except BaseException as error:
            return outcomes + _close_all(items, [(None, error)] * len(items))
        return outcomes + _close_all(items, results)

    def _open_all(self, call: BatchCall, runs: list[Running]) -> tuple[list[_Item], _Outcomes]:
        """Return the items of the call, and the outcomes of those that have none.

        An item that cannot be decoded is the failed attempt of that job alone, and so is what its middleware raises
        before the call. It does not wait for the call's end.
        """
        items: list[_Item] = []
        outcomes: _Outcomes = []
        for run in runs:
            item = _Item(run, self._context(run.lease), self._layers)
            try:
                item.open(call.task)
            except BaseException as error:  # a model's own validator may raise anything
                outcome = (run, *item.close(None, error))
                outcomes.append(outcome)
                if call.task.calls_async:
                    self._leave_out(call, *outcome)
                else:
                    with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                        self._loop.call_soon_threadsafe(self._leave_out, call, *outcome)
            else:
                items.append(item)
        return items, outcomes

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
        self._stop(call)

    def _stop(self, call: BatchCall) -> None:
        """All of its jobs shall stop."""
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


def _arguments(call: BatchCall, items: list[_Item]) -> list[object]:
    values = [item.value for item in items]
    if not call.task.wants_batch_context:
        return [values]
    contexts = [item.ctx for item in items]
    return [BatchContext(contexts[0].state, contexts), values]


def _split(returned: object, jobs: int) -> list[_Given]:
    """Return what each of the jobs has returned or raised. Raises `BatchMismatch`, and what lazy results raise."""
    return [(None, one) if isinstance(one, BaseException) else (one, None) for one in results_of(returned, jobs)]


def _close_all(items: list[_Item], given: list[_Given]) -> _Outcomes:
    outcomes: _Outcomes = []
    for item, (returned, raised) in zip(items, given, strict=True):
        place = raised.__traceback__ if raised is not None else None
        outcomes.append((item.run, *item.close(returned, raised)))
        if raised is not None:
            raised.__traceback__ = place  # one error may be that of all: else it would grow with each
    return outcomes


def _let_go(run: Running) -> None:
    """Nothing works on this attempt any more, whoever had given it up before."""
    if run.job is not None and not run.job.done():
        run.job.set_result(None)
