"""`Worker`: one process that runs jobs. Reads from the top: register, pump, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from goqueue.engine.ending import end
from goqueue.engine.fetcher import PUMPS, Fetcher, poll_max_s
from goqueue.engine.journal import NullJournal
from goqueue.engine.keeper import Keeper
from goqueue.engine.lifeline import Left, Recycling, Stopping
from goqueue.engine.port import HandlerPort
from goqueue.engine.prefetch import Prefetch
from goqueue.engine.pulse import Pulse
from goqueue.engine.runner import Runner
from goqueue.engine.settler import Settler
from goqueue.engine.speaker import SpeakerThread
from goqueue.model.errors import Unavailable
from goqueue.model.job import DEFAULT_QUEUE, DEFAULT_TENANT
from goqueue.model.lease import WorkerInfo
from goqueue.tasks import onion

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.completion import Completer
    from goqueue.engine.journal import Journal
    from goqueue.engine.lifeline import Lifeline
    from goqueue.model.lease import Beat
    from goqueue.settings import WorkerSettings
    from goqueue.store.port import WorkStore
    from goqueue.tasks.app import GoQueue

UNWIND_S: Final = 1.0
"""At a stop, handlers that were told to end have this long before their jobs are handed back anyway."""
FLUSH_S: Final = 10.0
"""At a stop, the last outcomes have this long to reach the store."""
WILL_S: Final = 3.0
"""Those that have not reached it have this long to reach the supervisor instead."""

log = structlog.get_logger("goqueue.engine")


def worker_info(
    app: GoQueue, settings: WorkerSettings, queues: tuple[str, ...], *, id: str = "", name: str = "", version: str = ""
) -> WorkerInfo:
    """Describe this process as a worker. A worker is a process: its id is new each time."""
    return WorkerInfo(
        id=id or str(uuid4()),
        name=name or f"{platform.node()}:{os.getpid()}",
        host=platform.node(),
        pid=os.getpid(),
        version=version,
        queues=queues,
        kinds=tuple(sorted(app.kinds)),
        concurrency=settings.concurrency,
    )


class WorkerBroken(RuntimeError):
    """A part of the worker that must run as long as it does has ended by itself: a bug. Its jobs were handed back."""


class Worker:
    """Runs an application's jobs from ``queues``, in order, until it is stopped.

    ``info`` says who it is (`worker_info` makes one). The store must be open, and stay open until `run` has returned.
    ``lifeline`` ties it to a supervisor, and ``journal`` tells that what has started if this process dies. A worker in
    an application has neither, and may be given ``second_store`` instead: it opens a store in a thread, from which
    beats come while a handler blocks the loop. ``app_ref`` (``module:attribute``) is where child processes for
    handlers find the application, ``completer`` how a handler completes its job in a transaction of its own.
    """

    def __init__(
        self,
        app: GoQueue,
        store: WorkStore,
        settings: WorkerSettings,
        *,
        queues: tuple[str, ...] = (DEFAULT_QUEUE,),
        tenant: str = DEFAULT_TENANT,
        info: WorkerInfo | None = None,
        lifeline: Lifeline | None = None,
        journal: Journal | NullJournal | None = None,
        app_ref: str | None = None,
        completer: Completer | None = None,
        second_store: Callable[[], contextlib.AbstractAsyncContextManager[WorkStore]] | None = None,
    ) -> None:
        app.check()
        self.info = info or worker_info(app, settings, queues)
        self._app = app
        self._store = store
        self._settings = settings
        self._queues = queues
        self._tenant = tenant
        self._lifeline = lifeline
        self._journal = journal or NullJournal()
        self._app_ref = app_ref
        self._completer = completer
        self._second_store = second_store
        self._speaker: SpeakerThread | None = None
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._hurry = asyncio.Event()
        self._patience_s = 0.0
        self._broken: WorkerBroken | None = None
        self._parts: _Parts | None = None
        self._recycling = False

    # -- from outside -----------------------------------------------------------------------------

    def stop(self, *, now: bool = False) -> None:
        """Stop gracefully; a second call, or ``now``, hands running jobs back at once. Call on the loop's thread."""
        if now or self._hurry.is_set():
            self._stop_now.set()
        self.stop_gracefully()

    def stop_gracefully(self) -> None:
        """Stop as `stop` does, but however often it is called, never more abruptly."""
        self._hurry.set()
        self._stop.set()

    @property
    def settled(self) -> int:
        """Outcomes that the store has taken so far."""
        return self._parts.settler.settled if self._parts else 0

    @property
    def hung(self) -> int:
        """Handlers that were told to stop, went on, and go on still."""
        return len(self._parts.runner.hung) if self._parts else 0

    async def run(self) -> None:
        """Run jobs until `stop`; then return, with everything handed back or settled. Can be called once.

        Raises `WorkerBroken` if it cannot go on; whatever it can still hand back or settle is, before.
        """
        async with self._lifespan() as state:
            await self._run(state, until_idle=False)

    async def run_until_idle(self) -> None:
        """Run jobs until none is due and none runs; then stop gracefully. Jobs for later are left for later."""
        async with self._lifespan() as state:
            await self._run(state, until_idle=True)

    # -- life -------------------------------------------------------------------------------------

    def _lifespan(self) -> contextlib.AbstractAsyncContextManager[object]:
        return self._app.live()

    async def _run(self, state: object, *, until_idle: bool) -> None:
        parts = self._parts = _Parts(self)
        parts.runner.enter(state)
        loops = [asyncio.create_task(parts.keeper.run(), name="goqueue-keeper")]
        loops += [asyncio.create_task(parts.fetcher.pump(), name=f"goqueue-pump-{n}") for n in range(PUMPS)]
        loops += [asyncio.create_task(parts.fetcher.listen(), name="goqueue-listen")]
        for loop in loops:
            loop.add_done_callback(self._ended)
        self._tie(parts)
        parts.pulse.start()
        log.info("start", worker_id=self.info.id, queues=self._queues, concurrency=self._settings.concurrency)
        try:
            if until_idle:
                await self._wait_until_idle(parts)
            else:
                await self._stop.wait()
            await self._shut_down(parts)
        finally:
            parts.fetcher.close()
            for loop in loops:
                loop.remove_done_callback(self._ended)
            await end(loops)
            parts.pulse.close()
            if self._lifeline is not None:
                self._lifeline.detach()
            if self._speaker is not None:
                await self._speaker.close()
            await parts.runner.close()
        if self._broken is not None:
            raise self._broken

    def _ended(self, loop: asyncio.Task[None]) -> None:
        """One of the loops is over, although none may be: without it the worker only looks alive. So it ends."""
        error = None if loop.cancelled() else loop.exception()
        log.error("loop", name=loop.get_name(), error=repr(error), do="the worker stops; report this", exc_info=error)
        if self._broken is None:
            self._broken = WorkerBroken(f"{loop.get_name()} has ended by itself: {error!r}")
            self._broken.__cause__ = error
        self.stop(now=True)

    def _tie(self, parts: _Parts) -> None:
        """Tie this worker to who beats for it when it cannot."""
        beaten_at = parts.keeper.extend_to
        if self._lifeline is not None:
            self._lifeline.attach(stop=self._told_to_stop, orphaned=self.stop_gracefully, beaten_at=beaten_at)
        if self._second_store is not None:
            self._speaker = SpeakerThread(self._settings, self._second_store, pid=os.getpid(), beaten_at=beaten_at)
            self._speaker.start()

    async def _wait_until_idle(self, parts: _Parts) -> None:
        while not self._stop.is_set():
            fetcher, runner = parts.fetcher, parts.runner
            still = not (runner.running or runner.waiting or parts.settler.waiting or fetcher.in_flight)
            if fetcher.idle and still:
                return
            fetcher.trip_done.clear()
            await self._first_of(fetcher.trip_done, self._stop)

    async def _shut_down(self, parts: _Parts) -> None:
        """Stop claiming, hand back what has not started, finish what runs, flush outcomes, take leave."""
        runner, fetcher, settler, keeper = parts.runner, parts.fetcher, parts.settler, parts.keeper
        started = time.monotonic()
        self._say_stopping()
        fetcher.open = False
        keeper.draining = True
        keeper.beat_soon()
        runner.stopping = True
        released = runner.hand_back_waiting()
        patience_s = 0.0 if self._hurry.is_set() else self._patience_s
        grace_s = patience_s or self._settings.grace_s
        log.info("stop", running=len(runner.running), released=released, grace_s=grace_s)
        if patience_s:  # another process has its place, so this one may take its time
            await self._first_of(runner.quiet, self._hurry, self._stop_now, timeout_s=patience_s)
            self._say_stopping()
        await self._first_of(runner.quiet, self._stop_now, timeout_s=self._settings.grace_s)
        if runner.running:
            log.warning("hand_back", jobs=runner.hand_back_running())
            await self._first_of(runner.quiet, timeout_s=UNWIND_S)
            runner.abandon_running()
        flushed = await self._flush(parts)
        if not flushed:
            await self._bequeath(settler)
            if self._lifeline is not None:
                return  # without a leave: the sweep must not come before the supervisor, and count crashes
        try:
            async with asyncio.timeout(UNWIND_S * 2):
                await keeper.leave()
        except (Unavailable, TimeoutError) as error:
            log.warning("leave", error=str(error) or "no answer in time")
        else:
            if flushed and self._lifeline is not None:
                self._lifeline.say(Left())
        log.info("stopped", settled=settler.settled, lost=settler.lost, took_s=round(time.monotonic() - started, 3))

    async def _bequeath(self, settler: Settler) -> None:
        """Leave what the store did not take to the supervisor, which brings it there when it is back."""
        outcomes, left_to = settler.undecided(), 0
        if self._lifeline is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WILL_S):
                    await self._lifeline.bequeath(outcomes)
            left_to = self._lifeline.bequeathed
            log.warning("bequeath", outcomes=left_to, reason="the store did not take them before the end of the stop")
        if left_to < len(outcomes):
            reason = "neither the store nor a supervisor took them before the end of the stop: their jobs run again"
            log.error("drop", outcomes=len(outcomes) - left_to, reason=reason)

    async def _flush(self, parts: _Parts) -> bool:
        try:
            async with asyncio.timeout(FLUSH_S):
                while parts.settler.waiting or parts.fetcher.in_flight:
                    parts.fetcher.trip_done.clear()
                    parts.fetcher.wake()
                    await parts.fetcher.trip_done.wait()
        except TimeoutError:
            return False
        return True

    @staticmethod
    async def _first_of(*events: asyncio.Event, timeout_s: float | None = None) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _told_to_stop(self, *, now: bool = False, patience_s: float = 0.0) -> None:
        # The supervisor counts for us: a signal to the whole group comes to us twice, and means one.
        self._patience_s = patience_s
        if now:
            self._stop_now.set()
        if not patience_s:
            self._hurry.set()
        self._stop.set()

    def _say_stopping(self) -> None:
        if self._lifeline is not None:
            self._lifeline.say(Stopping(0.0 if self._hurry.is_set() else self._patience_s))

    # -- what the keeper reports ------------------------------------------------------------------

    def _beaten(self, beat: Beat) -> None:
        parts = self._parts
        if parts is None:
            return
        if not parts.fetcher.open and not self._stop.is_set():
            parts.fetcher.open = True
            parts.fetcher.wake()
        if self._lifeline is not None:
            self._lifeline.tell(beat)
        if self._speaker is not None:
            self._speaker.tell(beat)

    def _lapsed(self) -> None:
        """The leases are over: stop working on them, and offer to hand back what the store may still think is ours."""
        parts = self._parts
        if parts is not None:
            parts.fetcher.lapse()
            parts.runner.hand_back_waiting()
            parts.runner.hand_back_running()

    def _recycle(self, reason: str, *, routine: bool = True) -> None:
        """This process has become a burden. A supervisor starts another in its place, and then stops this one."""
        if self._recycling or self._stop.is_set():
            return
        self._recycling = True
        if self._lifeline is None:
            log.error(
                "recycle", reason=reason, hung=self.hung, do="restart this process: it has no supervisor that would"
            )
            return
        (log.info if routine else log.warning)("recycle", reason=reason, hung=self.hung)
        self._lifeline.say(Recycling(reason))

    def _news(self) -> None:
        if self._lifeline is not None:
            self._lifeline.read()
        if self._speaker is not None:
            self._speaker.read()


class _Parts:
    """The rooms of one run, wired to each other."""

    def __init__(self, worker: Worker) -> None:
        store, settings = worker._store, worker._settings
        port = HandlerPort(store, onion.around_enqueue(worker._app.middleware), worker._completer)
        wake: Callable[[], None] = lambda: self.fetcher.wake()  # noqa: E731  bound below
        self.settler = Settler(
            batch=settings.settle_batch,
            loop=asyncio.get_running_loop(),
            wake=wake,
            returns=lambda delay_s: self.fetcher.look_in(delay_s),
            returns_max_s=poll_max_s(settings),
        )
        self.runner = Runner(
            worker._app,
            settings,
            settle=self.settler.add,
            returns=self.settler.note_return,
            doubt=self.settler.doubt,
            wake=wake,
            crowded=lambda: worker._recycle("too many handlers go on after they were told to stop", routine=False),
            port=port,
            journal=worker._journal,
            app_ref=worker._app_ref,
            completer=worker._completer,
        )
        port.bind(self.runner.running)
        prefetch = Prefetch(settings)
        self.fetcher = Fetcher(
            store,
            settings,
            worker_id=worker.info.id,
            tenant=worker._tenant,
            queues=worker._queues,
            runner=self.runner,
            settler=self.settler,
            prefetch=prefetch,
            went_idle=lambda: self.keeper.beat_soon(),
            doubted=lambda: self.keeper.beat_soon(),
            cancels=lambda: self.keeper.beat_at_once(),
        )
        self.keeper = Keeper(
            store,
            settings,
            info=worker.info,
            tenant=worker._tenant,
            runner=self.runner,
            settler=self.settler,
            fetcher=self.fetcher,
            beaten=worker._beaten,
            lapsed=worker._lapsed,
            news=worker._news,
        )
        self.pulse = Pulse(
            settings, runner=self.runner, prefetch=prefetch, journal=worker._journal, recycle=worker._recycle
        )
