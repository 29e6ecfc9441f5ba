"""`Sandbox`: an application, a store in memory, a clock that the test moves. For tests without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from goqueue.engine.executors.threads import ThreadCall, ThreadExecutor
from goqueue.testing.async_sandbox import Jobs, span
from goqueue.testing.hands import Hands

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextvars import Context
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from goqueue.model.job import NewJob
    from goqueue.testing.outcome import Drained

R = TypeVar("R")
T = TypeVar("T")


class CallerThread(ThreadExecutor):
    """Plain functions on the test's own thread, which serves them while it waits for the sandbox's loop."""

    def __init__(self) -> None:
        super().__init__(threads=1)

    def start(self, function: Callable[[], object], context: Context) -> ThreadCall:
        """Let the waiting thread run ``function``."""
        self._started = max(1, self._started)  # there is a thread: the test's
        return super().start(function, context)

    def serve(self) -> None:
        """Run what comes, until `let_go`."""
        while not self._work():
            pass  # a call that was given up has come back: there is no other thread to take this one's place

    def let_go(self) -> None:
        """End `serve`. From any thread."""
        self._calls.put(None)


class Sandbox(Jobs):
    """Run an application's jobs in a plain test: ``with Sandbox(app) as sandbox``.

    Plain handlers run on the test's own thread (so they see its database transaction, its patches, its debugger), also
    those of ``run_in="process"``; async ones on a loop of the sandbox's own. Nothing runs by itself: `drain` runs what
    is due, `advance` moves the clock and runs what falls due. Delays of retries are without chance (the middle of
    their jitter). ``now`` is where the clock stands at first, by default the real instant.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _caller: CallerThread | None = None
    _made: Hands | None = None

    def drain(self) -> Drained:
        """Run what is due, and what becomes due by that, until nothing is."""
        return self._do(lambda hands: hands.drain())

    def advance(
        self,
        delta: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> Drained:
        """Move the clock, and run all that falls due meanwhile, each at its own instant: retries, snoozed jobs too."""
        by = span(delta, days, hours, minutes, seconds)
        return self._do(lambda hands: hands.advance(by))

    def perform(self, job: NewJob[R]) -> R:
        """Store one job, run one attempt of it at once, and return its result, through JSON as in life.

        Raises what the handler raised, itself. Other jobs wait.
        """
        stored = self.client.enqueue(job.options(delay_s=0))
        ran = self._do(lambda hands: hands.drain(only=stored.id)).ran
        return self.client.outcome_of(stored, ran)

    @contextlib.contextmanager
    def inline(self) -> Iterator[Self]:
        """Run jobs at once when they are enqueued by this sandbox's client, inside the ``with`` block.

        What a handler raises, the enqueue raises. Jobs with a delay wait for `advance`.
        """
        with self.client.running(self._run_inline):
            yield self

    def _run_inline(self) -> None:
        if self._made is not None and self._made.busy:
            return  # a handler has enqueued it: it comes after that one
        for error in self.drain().errors:
            raise error

    # -- the loop -----------------------------------------------------------------------------------

    def _do(self, work: Callable[[Hands], Coroutine[Any, Any, T]]) -> T:
        """Do ``work`` on the sandbox's loop; this thread runs plain handlers meanwhile."""
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("this test has an event loop: use AsyncSandbox, whose methods are awaited")
        loop = self._loop or self._start()
        future = asyncio.run_coroutine_threadsafe(self._with_hands(work), loop)
        caller = self._caller
        assert caller is not None
        future.add_done_callback(lambda _: caller.let_go())
        caller.serve()
        return future.result()

    async def _with_hands(self, work: Callable[[Hands], Coroutine[Any, Any, T]]) -> T:
        if self._made is None:
            assert self._caller is not None
            self._made = Hands(self.app, self.memory, self._caller, self._faults, self._worker)
        return await work(self._made)

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, args=(loop,), name="goqueue-sandbox", daemon=True)
        self._thread.start()
        self._caller = asyncio.run_coroutine_threadsafe(_make_caller(), loop).result()
        return loop

    @staticmethod
    def _turn(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def close(self) -> None:
        """Leave the application's lifespan and close the clients. Idempotent."""
        self.client.close()
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        try:
            if self._made is not None:
                asyncio.run_coroutine_threadsafe(self._made.close(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _make_caller() -> CallerThread:
    return CallerThread()
