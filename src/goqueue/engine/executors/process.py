"""One process in which handlers run, as its worker sees it. `process_child` is what runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from goqueue.engine.executors import wire
from goqueue.engine.failure import HandlerDied
from goqueue.model.errors import GoQueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.completion import Completer
    from goqueue.model.lease import Lease
    from goqueue.tasks.context import ContextPort

END_S: Final = 5.0
"""A process that is asked to end has this long, its lifespan included, before it is killed."""
LAST_WORDS_S: Final = 0.5
"""What a process has said before its death is waited for this long, should its socket not close with it."""


class HandlerProcess:
    """One process, and our end of the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self.pid = process.pid
        self.jobs = 0
        """How many it has done."""
        self._mourner = asyncio.create_task(self._mourn())

    @classmethod
    async def spawn(cls, app_ref: str, completer: Completer | None = None) -> HandlerProcess:
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
        writer.write(wire.frame(wire.Hello(sys.path, app_ref, completer)))
        return cls(process, reader, writer)

    async def begin(self, request: wire.Run) -> None:
        """Give it a job and wait until it has taken it."""
        await self._send(request)
        while True:
            message = await self._receive()
            if isinstance(message, wire.Started):
                return
            # Something that its last job has left behind may still talk.
            if not isinstance(message, wire.Progress | wire.Log | wire.Completing):
                raise HandlerDied(f"the process answered {type(message).__name__} instead of Started")

    async def converse(
        self, lease: Lease, port: ContextPort, completing: Callable[[bool], object] | None = None
    ) -> wire.Done:
        """Serve the handler's wishes until it is done."""
        while True:
            message = await self._receive()
            match message:
                case wire.Done():
                    self.jobs += 1
                    return message
                case wire.Progress():
                    port.progress(lease, message.value)
                case wire.Log():
                    port.log(lease, message.level, message.message)
                case wire.Enqueue():
                    try:
                        answers = await port.enqueue(lease, message.jobs)
                    except GoQueueError as error:
                        await self._send(wire.EnqueueReply([], type(error).__name__, str(error), message.number))
                    else:
                        await self._send(wire.EnqueueReply(answers, number=message.number))
                case wire.Completing():
                    if completing is not None:
                        completing(message.value)
                case wire.Started():
                    raise HandlerDied("the process started a job that it was not given")
                case _:
                    assert_never(message)

    def halt(self, lease: Lease, stop: str) -> None:
        """Tell the handler to stop; it may be gone."""
        if not self._writer.is_closing():
            self._writer.write(wire.frame(wire.Halt(lease.id, lease.fence, stop)))

    def kill(self) -> None:
        """Kill it now."""
        self._mourner.cancel()
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
        finally:
            self._mourner.cancel()

    async def _mourn(self) -> None:
        """Close the connection after its death: what it has forked may hold the other end, and then nothing tells."""
        await self.process.wait()
        await asyncio.sleep(LAST_WORDS_S)
        self._writer.close()

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
        except (wire.TooLong, msgspec.MsgspecError) as error:
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
