"""A process in which handlers run: ``python -m goqueue.engine.executors.process_child``.

One job at a time: plain functions on the main thread, as CPU-bound code expects, async ones on the loop of
`goqueue.engine.executors.home`. Another thread listens to the worker, and ends the process when the worker has gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import queue
import random
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar, cast

import msgspec

from goqueue.engine.completion import complete, rolled_back
from goqueue.engine.executors import wire
from goqueue.engine.executors.home import Home
from goqueue.engine.executors.memory import resident_bytes
from goqueue.engine.verdict import Stop, verdict
from goqueue.model import errors, limits
from goqueue.model.errors import GoQueueError, StoreUnavailable
from goqueue.model.outcome import NewLog, Note
from goqueue.tasks import onion
from goqueue.tasks.context import Context, in_handler
from goqueue.tasks.retry import DEFAULT_RETRY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from goqueue.engine.completion import Completer
    from goqueue.model.job import LogLevel, NewJob
    from goqueue.model.lease import Lease
    from goqueue.model.query import Enqueued
    from goqueue.tasks.onion import Layers
    from goqueue.tasks.task import Task

T = TypeVar("T")

REPLY_S: Final = 60.0
"""The worker answers within its store's own deadline, which is shorter."""
LEAVE_S: Final = 3.0
"""When the worker has gone, the lifespan has this long to end."""


class Halts:
    """What the worker has said about stopping: of one job, the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job = ("", 0)
        self._stop = Stop.NONE
        self._cancel: Callable[[], object] | None = None

    def hear(self, halt: wire.Halt) -> None:
        """Note that a job shall stop, and interrupt it if it runs on the loop."""
        with self._lock:
            self._job, self._stop = (halt.id, halt.fence), Stop[halt.stop]
            cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def of(self, lease: Lease) -> Stop:
        """Return why this job shall stop."""
        with self._lock:
            return self._stop if self._job == (lease.id, lease.fence) else Stop.NONE

    def interrupt_with(self, lease: Lease, cancel: Callable[[], object] | None) -> None:
        """Say how to interrupt the job that runs now; at once if it shall stop already. None: it has ended."""
        with self._lock:
            late = cancel is not None and self._job == (lease.id, lease.fence)
            self._cancel = None if late else cancel
        if late and cancel is not None:
            cancel()


class Line:
    """The connection to the worker."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.jobs: queue.SimpleQueue[wire.Run | None] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[wire.EnqueueReply] = queue.SimpleQueue()
        self.halts = Halts()
        self.busy = False
        self.left = threading.Event()

    def send(self, message: wire.ToWorker) -> None:
        with self._lock:
            self._connection.sendall(wire.frame(message))

    def receive(self) -> wire.ToHandler:
        """Raises `EOFError` when the worker has gone, `wire.TooLong` when what comes is no message."""
        size = wire.length(self._exactly(wire.HEADER.size))
        message: wire.ToHandler = wire.decode_to_handler(self._exactly(size))
        return message

    def listen(self) -> None:
        """Sort what the worker says until it has gone; then end the process, whatever the handler does."""
        try:
            while True:
                match self.receive():
                    case wire.Run() as job:
                        self.jobs.put(job)
                    case wire.Halt() as halt:
                        self.halts.hear(halt)
                    case wire.EnqueueReply() as reply:
                        self.replies.put(reply)
                    case wire.Hello():
                        pass
        except (EOFError, OSError):
            self.jobs.put(None)
            if not self.busy:
                self.left.wait(LEAVE_S)
            sys.stdout.flush()
            os._exit(0)
        except wire.TooLong as error:
            sys.stdout.flush()
            print(f"goqueue: the worker sent {error}", file=sys.stderr, flush=True)  # noqa: T201  no logger here
            os._exit(1)

    def _exactly(self, size: int) -> bytes:
        chunks = []
        while size:
            chunk = self._connection.recv(min(size, 1 << 20))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)


class LinePort:
    """What `Context` needs, over the connection to the worker."""

    def __init__(self, line: Line, home: Home, completer: Completer | None = None) -> None:
        self._line = line
        self._home = home
        self._completer = completer
        self._lock = threading.Lock()
        self._said_lock = threading.Lock()
        self._progress: bytes | None = None
        self._lines: deque[tuple[int, float, LogLevel, str]] = deque(maxlen=limits.LOGS_KEPT_MAX)
        self._logged = 0
        self._asked = 0
        self.layers: Layers = ()
        self.completing = False
        """The handler of the job that runs now has completed it in a transaction of its own."""
        self.lease: Lease | None = None
        """Of the job that runs now. A thread or task that an earlier one has left behind must not speak for it."""

    def begin(self, lease: Lease) -> None:
        """Speak for a job from now on."""
        with self._said_lock:
            self.lease, self.completing = lease, False
            self._progress, self._logged = None, 0
            self._lines.clear()

    def cancelled(self, lease: Lease) -> bool:
        return lease is not self.lease or self._line.halts.of(lease) is not Stop.NONE

    def progress(self, lease: Lease, value: bytes) -> None:
        if lease is self.lease:
            self._progress = value
            self._line.send(wire.Progress(value))

    def log(self, lease: Lease, level: LogLevel, message: str) -> None:
        with self._said_lock:  # the worker numbers them, too, as they come
            if lease is self.lease:
                self._logged += 1
                self._lines.append((self._logged, time.monotonic(), level, message))
                self._line.send(wire.Log(level, message))

    async def enqueue(self, lease: Lease, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
        if lease is not self.lease:
            raise errors.LeaseLost("this attempt has ended")
        wire.check_size(jobs)
        plain = [msgspec.structs.replace(job, returns=None) for job in jobs]
        return await asyncio.to_thread(self._ask, plain)

    def complete_in(self, lease: Lease, conn: object, result: bytes | None) -> Awaitable[None]:
        if lease is not self.lease:
            raise errors.LeaseLost(f"this attempt of job {lease.id} has ended: roll the transaction back")
        if self._line.halts.of(lease).spoils:
            raise errors.LeaseLost(f"the time of this attempt of job {lease.id} is over: roll the transaction back")
        return complete(self._completer, conn, lease, result, self._note(), mark=functools.partial(self._mark, lease))

    def _note(self) -> Note:
        """Return what the job has said. The store knows by their numbers the lines that it has."""
        with self._said_lock:
            now = time.monotonic()
            return Note(self._progress, tuple(NewLog(n, level, text, now - at) for n, at, level, text in self._lines))

    def _mark(self, lease: Lease, completing: bool) -> bool:
        """Tell the worker before anything is written: it must not take the end of the lease for its loss."""
        if lease is not self.lease:
            raise errors.LeaseLost(f"this attempt of job {lease.id} has ended: roll the transaction back")
        before, self.completing = self.completing, completing
        if before is not completing:
            self._line.send(wire.Completing(completing))
        return before

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self._home.run(work)

    def _ask(self, jobs: list[NewJob[object]]) -> list[Enqueued]:
        with self._lock:
            self._asked += 1
            self._line.send(wire.Enqueue(jobs, self._asked))
            until = time.monotonic() + REPLY_S
            try:
                while (
                    reply := self._line.replies.get(timeout=max(0.0, until - time.monotonic()))
                ).number < self._asked:
                    pass  # the answer to one that did not wait so long
            except queue.Empty:
                raise StoreUnavailable("the worker did not answer an enqueue in time") from None
        if reply.error:
            raise _error(reply)
        return reply.answers


def main() -> None:
    """Serve one worker until it closes the connection."""
    # A Ctrl-C or a SIGTERM to the whole group is the worker's to act on: it lets us finish, or kills us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    line = Line(socket.socket(fileno=int(os.environ.pop(wire.FD_VARIABLE))))
    hello = line.receive()
    ref, completer = "", None
    if isinstance(hello, wire.Hello):
        sys.path[:] = hello.sys_path
        ref, completer = hello.app, hello.completer
    threading.Thread(target=line.listen, name="goqueue-line", daemon=True).start()
    home = Home(ref)
    worker = _Worker(line, home, completer)
    worker.enter()
    while (job := line.jobs.get()) is not None:
        line.busy = True
        line.send(wire.Started())
        line.send(worker.attempt(job))
        line.busy = False
    try:
        home.leave()
    finally:
        line.left.set()


class _Worker:
    """Runs one job after the other."""

    def __init__(self, line: Line, home: Home, completer: Completer | None) -> None:
        self._halts = line.halts
        self._home = home
        self._port = LinePort(line, home, completer)
        self._layers: Layers = ()
        self._broken: BaseException | None = None

    def enter(self) -> None:
        """Start the application. If that fails, the first job says how, and is the last."""
        try:
            self._home.enter()
            self._layers = onion.around_run(self._home.middleware)
            self._port.layers = onion.around_enqueue(self._home.middleware)
        except BaseException as error:
            self._broken = error

    def attempt(self, job: wire.Run) -> wire.Done:
        """Run one job and judge it."""
        began_at, lease = time.monotonic(), job.lease
        self._port.begin(lease)
        task: Task[..., object] | None = None
        returned: object = None
        raised = self._broken
        try:
            task = self._home.task(job).alone  # also when the application does not start: its policy says what now
            if raised is None:
                returned = contextvars.copy_context().run(self._call, task, lease)
        except BaseException as error:
            raised = raised or error
        self._port.lease = None
        if self._port.completing:
            returned, raised = None, raised or rolled_back(lease)
        stop = self._halts.of(lease)
        outcome = verdict(
            returned,
            raised,
            lease=lease,
            task=task or _NO_TASK,
            policy=task.retry if task is not None else DEFAULT_RETRY,
            stop=stop,
            random01=random.random(),  # noqa: S311  jitter, not a secret
            since_claim_s=job.since_claim_s + time.monotonic() - began_at,
        )
        return wire.Done(outcome, stop.name, resident_bytes(), last=self._broken is not None)

    def _call(self, task: Task[..., object], lease: Lease) -> object:
        in_handler.set(True)
        ctx = Context(lease, self._port, self._home.state)
        function = functools.partial(task.call, ctx, lease.args, lease.meta)
        if not task.is_async:
            return onion.call(self._layers, ctx, function)
        awaited = cast("Callable[[], Awaitable[object]]", function)
        work = self._on_loop(onion.call_async(self._layers, ctx, awaited), lease)
        returned, raised = self._home.submit(work).result()
        if raised is not None:
            raise raised
        return returned

    async def _on_loop(
        self, work: Coroutine[object, object, object], lease: Lease
    ) -> tuple[object, BaseException | None]:
        """Catch all that it raises: a `SystemExit` in a task would end the loop."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            if task is not None:
                self._halts.interrupt_with(lease, lambda: loop.call_soon_threadsafe(task.cancel))
            return await work, None
        except BaseException as error:
            return None, error
        finally:
            self._halts.interrupt_with(lease, None)


class _NoTask:
    def encode_result(self, value: object) -> bytes | None:
        raise TypeError(f"no task to encode {type(value)}")


_NO_TASK: Final = _NoTask()


def _error(reply: wire.EnqueueReply) -> GoQueueError:
    cls: Callable[[str], GoQueueError] | None = getattr(errors, reply.error, None)
    if cls in (errors.LeaseLost, errors.StoreUnavailable):
        return cls(reply.message)
    return GoQueueError(f"{reply.error}: {reply.message}")


if __name__ == "__main__":
    main()
