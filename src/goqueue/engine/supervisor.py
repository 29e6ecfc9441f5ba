"""`Supervisor`: starts worker processes, watches them, and speaks for them to the store when they cannot.

It runs no user code, so nothing can keep it from its beats: while a worker's process lives, its leases hold, even if
a handler sits on the GIL. When the process dies the supervisor knows it at once, and takes its leave for it, so that
its jobs are orphans now and not at the end of the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
import structlog

from goqueue.engine import lifeline
from goqueue.engine.backoff import Backoff
from goqueue.engine.child import EXIT_MISCONFIGURED
from goqueue.engine.speaker import Speaker
from goqueue.engine.worker import FLUSH_S, UNWIND_S
from goqueue.model.errors import ConfigurationError, Unavailable
from goqueue.model.job import DEFAULT_TENANT
from goqueue.model.lease import Beat, WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from goqueue.model.lease import Beaten
    from goqueue.settings import WorkerSettings

STABLE_S: Final = 30.0
"""A process that has lived this long starts again at once, however often it failed before."""
RESTART_MAX_S: Final = 30.0
KILL_MARGIN_S: Final = 5.0
"""Beyond all the time that a stopping worker may take; then it is killed."""

log = structlog.get_logger("goqueue.supervisor")


class Supervisor:
    """Runs ``settings.processes`` workers, each ``target(child)`` in a process of its own (see `goqueue.engine.child`).

    ``payload`` is handed to the target as it is. ``extend`` is the store's: the supervisor beats for its children and
    buries them with it.
    """

    def __init__(
        self,
        target: str,
        payload: str,
        settings: WorkerSettings,
        *,
        extend: Callable[[Beat], Awaitable[Beaten]],
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self.restarts = 0
        self._target = target
        self._payload = payload
        self._settings = settings
        self._extend = extend
        self._tenant = tenant
        self._stopping = asyncio.Event()
        self._now = False
        self._children: set[_Child] = set()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        return tuple(sorted(child.process.pid for child in self._children))

    def stop(self, *, now: bool = False) -> None:
        """Stop all children gracefully; a second call, or ``now``, makes them hand back at once."""
        self._now = self._now or now or self._stopping.is_set()
        self._stopping.set()
        for child in self._children:
            child.tell(lifeline.StopNow(now=self._now))

    async def run(self) -> None:
        """Keep the children running until `stop`, and return when the last has ended.

        Raises `ConfigurationError` if one says that starting it again would not help.
        """
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self._settings.processes)]
        try:
            done, _ = await asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION)
            if any(keeper.exception() for keeper in done):
                self.stop()
            results = await asyncio.gather(*keepers, return_exceptions=True)
        finally:
            for keeper in keepers:
                keeper.cancel()
            for child in list(self._children):
                child.kill()
            await asyncio.gather(*keepers, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # -- one child after another ------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        backoff = Backoff(base_s=0.2, cap_s=RESTART_MAX_S)
        while not self._stopping.is_set():
            started_at = time.monotonic()
            code = await self._live(number)
            if code == EXIT_MISCONFIGURED:
                raise ConfigurationError("a worker process cannot start; what it wrote above says why")
            if self._stopping.is_set():
                return
            if time.monotonic() - started_at > STABLE_S:
                backoff.reset()
            delay_s = backoff.next_s()
            self.restarts += 1
            log.warning("restart", worker=number, exit_code=code, delay_s=round(delay_s, 2))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()

    async def _live(self, number: int) -> int:
        """Start one process and stay with it until it has ended and is buried; return its exit code."""
        child = await _Child.spawn(self._target, self._payload)
        self._children.add(child)
        if self._stopping.is_set():
            child.tell(lifeline.StopNow(now=self._now))
        log.info("spawn", worker=number, pid=child.process.pid, worker_id=child.worker_id)
        speaker = child.speaker(self._settings, self._extend)
        helpers = [
            asyncio.create_task(child.listen(speaker)),
            asyncio.create_task(speaker.run()),
            asyncio.create_task(self._kill_late(child)),
        ]
        try:
            code = await child.process.wait()
        finally:
            self._children.discard(child)
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            child.close()
        if code != 0:
            await self._bury(child, speaker)
        return code

    async def _kill_late(self, child: _Child) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._settings.grace_s + UNWIND_S * 3 + FLUSH_S + KILL_MARGIN_S)
        log.error("kill", pid=child.process.pid, reason="it did not end in the time that a stop may take")
        child.kill()

    async def _bury(self, child: _Child, speaker: Speaker) -> None:
        """Take a dead child's leave. Tried until its lease would be over anyway."""
        info = speaker.last.worker if speaker.last is not None else WorkerInfo(id=child.worker_id)
        beat = Beat(worker=info, ttl_s=0.0, draining=True, tenant=self._tenant)
        backoff = Backoff()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.lease_s):
                while True:
                    try:
                        await self._extend(beat)
                    except Unavailable as error:
                        log.warning("bury", pid=child.process.pid, error=str(error))
                        await asyncio.sleep(backoff.next_s())
                    else:
                        return


class _Child:
    """One worker process, and our end of its lifeline."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        worker_id: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self.worker_id = worker_id
        self._reader = reader
        self._writer = writer

    @classmethod
    async def spawn(cls, target: str, payload: str) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "goqueue.engine.child",
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, lifeline.FD_VARIABLE: str(theirs.fileno())},
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=lifeline.LINE_BYTES_MAX)
        child = cls(process, str(uuid4()), reader, writer)
        child.tell(lifeline.Hello(child.worker_id, target, payload, sys.path))
        return child

    def speaker(self, settings: WorkerSettings, extend: Callable[[Beat], Awaitable[Beaten]]) -> Speaker:
        """Return who beats for this process when it cannot, and tells it so."""
        return Speaker(
            settings,
            extend,
            pid=self.process.pid,
            spoken=lambda sent_at, ttl_s: self.tell(lifeline.BeatenFor(sent_at, ttl_s)),
        )

    async def listen(self, speaker: Speaker) -> None:
        """Hear the child's beats until its end of the lifeline closes."""
        with contextlib.suppress(OSError, ValueError):
            while line := await self._reader.readline():
                try:
                    speaker.hear(lifeline.decode_to_supervisor.decode(line).beat)
                except msgspec.MsgspecError as error:
                    log.warning("hear", pid=self.process.pid, error=str(error))

    def tell(self, message: lifeline.ToWorker) -> None:
        """Send a message; the process may be gone."""
        if not self._writer.is_closing():
            self._writer.write(lifeline.encode(message) + b"\n")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        self._writer.close()
