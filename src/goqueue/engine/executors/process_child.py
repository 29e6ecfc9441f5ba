"""The process in which ``run_in="process"`` handlers run: ``python -m goqueue.engine.executors.process_child``.

One job at a time on the main thread, as CPU-bound code expects. A second thread listens to the worker, and ends the
process when the worker has gone.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import queue
import random
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final, TypeVar, cast

import msgspec

from goqueue.engine.executors import wire
from goqueue.engine.verdict import Stop, verdict
from goqueue.model import errors
from goqueue.model.errors import DefinitionError, GoQueueError, StoreUnavailable
from goqueue.tasks.context import Context, in_handler
from goqueue.tasks.retry import DEFAULT_RETRY
from goqueue.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from goqueue.model.job import NewJob
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome
    from goqueue.model.query import Enqueued

T = TypeVar("T")

REPLY_S: Final = 60.0
"""The worker answers within its store's own deadline, which is shorter."""


class Line:
    """The connection to the worker."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.jobs: queue.SimpleQueue[wire.Run] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[wire.EnqueueReply] = queue.SimpleQueue()

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
                    case wire.EnqueueReply() as reply:
                        self.replies.put(reply)
                    case wire.Hello():
                        pass
        except (EOFError, OSError):
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
    """What `Context` needs, over the connection to the worker. A job that is cancelled is killed, never asked."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()

    def cancelled(self, lease: Lease) -> bool:  # noqa: ARG002  see the class
        return False

    def progress(self, lease: Lease, value: bytes) -> None:  # noqa: ARG002  the worker knows which job this process has
        self._line.send(wire.Progress(value))

    async def enqueue(self, lease: Lease, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:  # noqa: ARG002
        plain = [msgspec.structs.replace(job, returns=None) for job in jobs]
        return await asyncio.to_thread(self._ask, plain)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run(work)

    def _ask(self, jobs: list[NewJob[object]]) -> list[Enqueued]:
        with self._lock:
            self._line.send(wire.Enqueue(jobs))
            try:
                reply = self._line.replies.get(timeout=REPLY_S)
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
    if isinstance(hello, wire.Hello):
        sys.path[:] = hello.sys_path
    threading.Thread(target=line.listen, name="goqueue-line", daemon=True).start()
    port = LinePort(line)
    in_handler.set(True)
    while True:
        job = line.jobs.get()
        line.send(wire.Started())
        line.send(wire.Done(_attempt(job, port)))


def _attempt(job: wire.Run, port: LinePort) -> Outcome:
    task: Task[..., object] | None = None
    returned: object = None
    raised: BaseException | None = None
    try:
        task = _find(job.module, job.name)
        arguments = task.decode(job.lease.args)
        positional = (Context(job.lease, port, None),) if task.wants_context else ()
        returned = task.function(*positional, **arguments)
        if task.is_async:
            returned = asyncio.run(cast("Coroutine[object, object, object]", returned))
    except BaseException as error:
        raised = error
    return verdict(
        returned,
        raised,
        lease=job.lease,
        task=task or _NO_TASK,
        policy=task.retry if task is not None else DEFAULT_RETRY,
        stop=Stop.NONE,
        random01=random.random(),  # noqa: S311  jitter, not a secret
    )


class _NoTask:
    def encode_result(self, value: object) -> bytes | None:
        raise TypeError(f"no task to encode {type(value)}")


_NO_TASK: Final = _NoTask()


def _find(module: str, name: str) -> Task[..., object]:
    """Import the task again. Its decorator has replaced the function under the function's own name."""
    if "<locals>" in name or module == "__main__":
        raise DefinitionError(f"{module}.{name}: run_in='process' needs a function at the top of an importable module")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, Task):
        raise DefinitionError(f"{module}.{name} is not a task: keep what its decorator returns under its name")
    return found


def _error(reply: wire.EnqueueReply) -> GoQueueError:
    cls: Callable[[str], GoQueueError] | None = getattr(errors, reply.error, None)
    if cls in (errors.LeaseLost, errors.StoreUnavailable):
        return cls(reply.message)
    return GoQueueError(f"{reply.error}: {reply.message}")


if __name__ == "__main__":
    main()
