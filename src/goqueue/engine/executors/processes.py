"""CPU-bound handlers in processes of their own, one job at a time in each.

Not `concurrent.futures.ProcessPoolExecutor`, nor loky on top of it: when one of its processes dies, every job in the
pool fails with it, and it cannot kill the one process whose job has timed out. Here a death is one job's alone.
Not `multiprocessing`: its children import the parent's ``__main__`` again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from goqueue.engine.executors import wire
from goqueue.engine.failure import HandlerDied
from goqueue.model.errors import GoQueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome
    from goqueue.tasks.app import AnyTask
    from goqueue.tasks.context import ContextPort

START_TRIES_MAX: Final = 3
START_S: Final = 60.0
"""A new process must have taken its first job by then."""
END_S: Final = 2.0
"""A process that is asked to end has this long before it is killed."""

log = structlog.get_logger("goqueue.engine")


class ProcessExecutor:
    """At most ``processes`` children, started when needed and used again."""

    def __init__(self, processes: int) -> None:
        self._slots = asyncio.Semaphore(processes)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._reaping: set[asyncio.Task[int]] = set()

    async def run(
        self, task: AnyTask, lease: Lease, *, port: ContextPort, started: Callable[[], None] | None
    ) -> Outcome:
        """Run one job and return its outcome. ``started`` is called when its handler is about to start.

        Raises `HandlerDied` if the process dies under it. Cancelling this kills the process.
        """
        async with self._slots:
            child = await self._take(task, lease)
            try:
                if started is not None:
                    started()
                outcome = await child.converse(lease, port)
            except BaseException:
                self._kill(child)
                raise
            self._idle.append(child)
            return outcome

    async def _take(self, task: AnyTask, lease: Lease) -> _Child:
        """Return a process that has taken the job. One that died while it was idle was not this job's doing."""
        request = wire.Run(task.function.__module__, task.function.__qualname__, lease)
        for _ in range(START_TRIES_MAX):
            child = self._idle.pop() if self._idle else await _Child.spawn()
            self._all.add(child)
            try:
                async with asyncio.timeout(START_S):
                    await child.begin(request)
            except (HandlerDied, TimeoutError) as error:
                log.warning("restart", process=child.pid, reason=str(error))
                self._kill(child)
            except BaseException:
                self._kill(child)
                raise
            else:
                return child
        raise HandlerDied(f"no process for the handler would start in {START_TRIES_MAX} tries")

    async def close(self) -> None:
        """End all processes. Idempotent."""
        children, self._all, self._idle = self._all, set(), []
        await asyncio.gather(*(child.end() for child in children), *self._reaping)

    def _kill(self, child: _Child) -> None:
        child.kill()
        self._all.discard(child)
        reaping = asyncio.get_running_loop().create_task(child.process.wait())
        self._reaping.add(reaping)
        reaping.add_done_callback(self._reaping.discard)


class _Child:
    """One process, and our end of the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self.pid = process.pid

    @classmethod
    async def spawn(cls) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "goqueue.engine.executors.process_child",
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, wire.FD_VARIABLE: str(theirs.fileno())},
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(wire.frame(wire.Hello(sys.path)))
        return cls(process, reader, writer)

    async def begin(self, request: wire.Run) -> None:
        """Give it a job and wait until it has taken it."""
        await self._send(request)
        message = await self._receive()
        if not isinstance(message, wire.Started):
            raise HandlerDied(f"the process answered {type(message).__name__} instead of Started")

    async def converse(self, lease: Lease, port: ContextPort) -> Outcome:
        """Serve the handler's wishes until it is done."""
        while True:
            message = await self._receive()
            match message:
                case wire.Done():
                    return message.outcome
                case wire.Progress():
                    port.progress(lease, message.value)
                case wire.Enqueue():
                    try:
                        answers = await port.enqueue(lease, message.jobs)
                    except GoQueueError as error:
                        await self._send(wire.EnqueueReply([], type(error).__name__, str(error)))
                    else:
                        await self._send(wire.EnqueueReply(answers))
                case wire.Started():
                    raise HandlerDied("the process started a job that it was not given")
                case _:
                    assert_never(message)

    def kill(self) -> None:
        """Kill it now."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Let it end by itself (it does when its socket closes); kill it if it does not."""
        self._writer.close()
        try:
            async with asyncio.timeout(END_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    async def _send(self, message: wire.ToHandler) -> None:
        try:
            self._writer.write(wire.frame(message))
            await self._writer.drain()
        except OSError:
            raise HandlerDied(await self._how_it_died()) from None

    async def _receive(self) -> wire.ToWorker:
        try:
            size = wire.length(await self._reader.readexactly(wire.HEADER.size))
            message: wire.ToWorker = wire.decode_to_worker(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            raise HandlerDied(await self._how_it_died()) from None
        except wire.TooLong as error:
            raise HandlerDied(f"the process of the handler sent {error}; it was killed") from None
        return message

    async def _how_it_died(self) -> str:
        try:
            async with asyncio.timeout(END_S):
                code = await self.process.wait()
        except TimeoutError:
            return "the process of the handler closed its connection to the worker"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"the process of the handler was killed by {signal.Signals(-code).name}"
        return f"the process of the handler ended with exit code {code}"
