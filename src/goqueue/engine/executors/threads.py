"""Plain functions in threads: a bounded pool which can do without a thread that hangs.

Not `concurrent.futures.ThreadPoolExecutor`: it cannot replace a hung thread, joins all of them at interpreter exit
(a hung handler would keep the process for ever), and wakes the loop once for each result.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

HUNG_MAX: Final = 1_000
"""Threads given up as hung before no more replacements are started."""


class _Call:
    __slots__ = ("context", "error", "function", "future", "given_up", "result", "thread_id")

    def __init__(self, function: Callable[[], object], context: Context, future: asyncio.Future[object]) -> None:
        self.function = function
        self.context = context
        self.future = future
        self.result: object = None
        self.error: BaseException | None = None
        self.thread_id = 0
        self.given_up = False


class ThreadCall:
    """A function on its way through the pool. ``await`` it; its thread's stack can be asked for."""

    __slots__ = ("_call",)

    def __init__(self, call: _Call) -> None:
        self._call = call

    @property
    def future(self) -> asyncio.Future[object]:
        """Resolves to what the function returned or raised (any `BaseException`, wrapped in `HandlerRaised`)."""
        return self._call.future

    def stack(self) -> str:
        """Return where its function is now; "" if it is not running."""
        frame = sys._current_frames().get(self._call.thread_id)
        if frame is None:
            return ""
        frames = traceback.extract_stack(frame)
        outside = max((i for i, one in enumerate(frames) if one.filename == __file__), default=-1)
        return "".join(traceback.format_list(frames[outside + 1 :]))


class HandlerRaised(Exception):
    """Carries what a handler raised through a future, which takes neither `StopIteration` nor `SystemExit` well."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class ThreadExecutor:
    """At most ``threads`` daemon threads, started when needed."""

    def __init__(self, threads: int, *, name: str = "goqueue-handler") -> None:
        self.threads_max = threads
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._done: deque[_Call] = deque()
        self._lock = threading.Lock()
        self._wake_due = False
        self._started = 0
        self._busy = 0
        self._hung = 0
        self._closed = False

    def start(self, function: Callable[[], object], context: Context) -> ThreadCall:
        """Run ``function`` in a thread, in ``context``. The caller keeps to at most ``threads`` at the same time."""
        call = _Call(function, context, self._loop.create_future())
        self._busy += 1
        if self._busy > self._started:
            self._start_thread()
        self._calls.put(call)
        return ThreadCall(call)

    def give_up(self, thread_call: ThreadCall) -> bool:
        """Do without the thread of this call, which hangs: another may start in its place. False if too many hang."""
        call = thread_call._call
        if call.given_up or call.future.done() or self._hung >= HUNG_MAX:
            return False
        call.given_up = True
        self._hung += 1
        self._started -= 1
        self._busy -= 1
        return True

    def close(self) -> None:
        """Let idle threads go. Those that hang are daemons and end with the process. Idempotent."""
        if not self._closed:
            self._closed = True
            for _ in range(self._started):
                self._calls.put(None)

    def _start_thread(self) -> None:
        self._started += 1
        threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()

    def _work(self) -> bool:
        """Serve until told to end (True), or until a call that was given up has come back after all (False)."""
        me = threading.get_ident()
        while (call := self._calls.get()) is not None:
            call.thread_id = me
            try:
                call.result = call.context.run(call.function)
            except BaseException as error:
                call.error = error
            call.thread_id = 0
            given_up = call.given_up
            self._finished(call)
            del call
            if given_up:
                return False  # another has its place
        return True

    def _finished(self, call: _Call) -> None:
        with self._lock:
            self._done.append(call)
            if self._wake_due:
                return
            self._wake_due = True
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        with self._lock:
            self._wake_due = False
            done, self._done = self._done, deque()
        for call in done:
            if call.given_up:
                self._hung -= 1
            else:
                self._busy -= 1
            if not call.future.done():
                if call.error is None:
                    call.future.set_result(call.result)
                else:
                    call.future.set_exception(HandlerRaised(call.error))
