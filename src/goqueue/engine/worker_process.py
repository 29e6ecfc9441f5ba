"""`WorkerProcess`: one worker process as its supervisor sees it, from its start to its death."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Final, assert_never
from uuid import uuid4

import msgspec
import structlog

from goqueue.engine import journal, lifeline
from goqueue.engine.burial import Burial, cause_of_death
from goqueue.engine.ending import end
from goqueue.engine.speaker import Speaker
from goqueue.engine.watch import WATCH_S, Watch
from goqueue.engine.worker import FLUSH_S, UNWIND_S, WILL_S
from goqueue.model.lease import WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from goqueue.engine.journal import Began
    from goqueue.model.lease import Beat, Beaten
    from goqueue.model.outcome import Answer, Outcome, Settlement
    from goqueue.settings import WorkerSettings

KILL_MARGIN_S: Final = 5.0
"""Beyond all the time that a stopping worker may take; then it is killed."""
ABORT_S: Final = 3.0
"""A process that is given up has this long to write its stacks to the log."""
LAST_WORDS_S: Final = 1.0
"""What a process has said before its death is waited for this long: a child of its own may keep the line open."""

log = structlog.get_logger("goqueue.supervisor")


class WorkerProcess:
    """A process, our end of its lifeline, and the journal page that it writes.

    `run` stays with it until it has ended; then `burial` tells what is left to be done. `up` is set when it has
    registered with the store, `asks` when it wants to be replaced.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        worker_id: str,
        page: journal.Page,
        settings: WorkerSettings,
        *,
        tenant: str,
        extend: Callable[[Beat], Awaitable[Beaten]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.worker_id = worker_id
        self.up = asyncio.Event()
        self.asks = asyncio.Event()
        self._process = process
        self._page = page
        self._settings = settings
        self._tenant = tenant
        self._extend = extend
        self._reader = reader
        self._writer = writer
        self._end_at = math.inf
        self._end_set = asyncio.Event()
        self._left = False
        self._cause = ""
        self._started: Mapping[tuple[str, int], Began] = {}
        self._will: dict[tuple[str, int], Outcome] = {}
        self._may_hold = False
        self._speaker = Speaker(
            settings,
            extend,
            pid=process.pid,
            spoken=lambda sent_at, ttl_s: self._tell(lifeline.BeatenFor(sent_at, ttl_s)),
        )

    @classmethod
    async def spawn(
        cls,
        target: str,
        payload: str,
        settings: WorkerSettings,
        *,
        tenant: str,
        extend: Callable[[Beat], Awaitable[Beaten]],
    ) -> WorkerProcess:
        """Start a process that will run ``target`` (see `goqueue.engine.child`)."""
        page = journal.Page.create(journal.slots_for(settings))
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fds = {lifeline.FD_VARIABLE: theirs.fileno(), journal.FD_VARIABLE: page.fd}
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "goqueue.engine.child",
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=tuple(fds.values()),
                    env={**os.environ, **{name: str(fd) for name, fd in fds.items()}},
                )
        except BaseException:
            ours.close()
            page.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=lifeline.LINE_BYTES_MAX)
        it = cls(
            process,
            str(uuid4()),
            page,
            settings,
            tenant=tenant,
            extend=extend,
            reader=reader,
            writer=writer,
        )
        it._tell(lifeline.Hello(it.worker_id, target, payload, sys.path))
        return it

    # -- its life ---------------------------------------------------------------------------------

    @property
    def lives(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.returncode is None

    async def run(self) -> int:
        """Stay with it until it has ended; return its exit code."""
        listening = asyncio.create_task(self._listen())
        speaking = asyncio.create_task(self._speaker.run())
        helpers = [speaking, asyncio.create_task(self._kill_late()), asyncio.create_task(self._watch(speaking))]
        for helper in helpers:
            helper.add_done_callback(self._complain)
        try:
            code = await self._process.wait()
            await asyncio.wait([listening], timeout=LAST_WORDS_S)
        finally:
            await end((*helpers, listening))
            await asyncio.gather(*helpers, listening, return_exceptions=True)  # so that nothing they raised is unseen
            self._writer.close()
            self._started, self._may_hold = self._page.started(), self._page.alive_at > 0
            self._page.close()
        self._cause = self._cause or cause_of_death(code)
        return code

    def burial(self, settle: Callable[[Sequence[Settlement]], Awaitable[list[Answer]]]) -> Burial | None:
        """Return what is to be done with what it held, after its end; None if it held nothing."""
        if self._left or not self._may_hold:  # it handed all of it back itself, or never held a lease
            return None
        last = self._speaker.last
        return Burial(
            last.worker if last is not None else WorkerInfo(id=self.worker_id, pid=self.pid),
            self._started,
            self._cause,
            self._settings,
            tenant=self._tenant,
            extend=self._extend,
            settle=settle,
            will=self._will,
        )

    def stop(self, *, now: bool = False, patience_s: float = 0.0) -> None:
        """Stop it gracefully, its grace beginning after ``patience_s``; with ``now`` it hands back at once."""
        self._end_after(patience_s)
        self._tell(lifeline.StopNow(now=now, patience_s=patience_s))

    def _complain(self, helper: asyncio.Task[None]) -> None:
        if not helper.cancelled() and (error := helper.exception()) is not None:
            log.error("loop", pid=self.pid, error=repr(error), do="report this", exc_info=error)

    def kill(self) -> None:
        """End it. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _tell(self, message: lifeline.ToWorker) -> None:
        """Send a message; the process may be gone."""
        if not self._writer.is_closing():
            self._writer.write(lifeline.encode(message) + b"\n")

    async def _listen(self) -> None:
        """Hear what it says until its end of the lifeline closes."""
        with contextlib.suppress(OSError, ValueError):
            while line := await self._reader.readline():
                try:
                    self._hear(lifeline.decode_to_supervisor.decode(line))
                except msgspec.MsgspecError as error:
                    log.warning("hear", pid=self.pid, error=str(error))

    def _hear(self, message: lifeline.ToSupervisor) -> None:
        match message:
            case lifeline.Beating(beat=beat):
                self._speaker.hear(beat)
                self.up.set()
            case lifeline.Recycling():
                self.asks.set()
            case lifeline.Stopping(patience_s=patience_s):
                self._end_after(patience_s)
            case lifeline.Will(outcomes=outcomes):
                self._will |= {(one.ref.id, one.fence): one.outcome for one in outcomes}
            case lifeline.Left():
                self._left = True
            case _:
                assert_never(message)

    # -- its death --------------------------------------------------------------------------------

    async def _watch(self, speaking: asyncio.Task[None]) -> None:
        """Give it up when it has been stuck for too long: first in a way that leaves its stacks in the log."""
        watch = Watch(self._page, self._settings)
        while True:
            if watch.look():
                break
            await asyncio.sleep(WATCH_S)
        self._cause = f"it did not answer for {watch.stuck_s:.0f} s beyond its handlers' timeouts, and was aborted"
        log.error("abort", pid=self.pid, reason=self._cause, do="see its stacks, which it writes to its standard error")
        silencing = asyncio.create_task(end([speaking]))  # should even a kill not end the process: its leases must
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGABRT)
        await asyncio.sleep(ABORT_S)
        self.kill()
        await silencing

    def _end_after(self, patience_s: float) -> None:
        """It stops: note until when it may take, unless that was to be sooner already."""
        stop_s = self._settings.grace_s + UNWIND_S * 3 + FLUSH_S + WILL_S
        self._end_at = min(self._end_at, time.monotonic() + patience_s + stop_s + KILL_MARGIN_S)
        self._end_set.set()

    async def _kill_late(self) -> None:
        while (left_s := self._end_at - time.monotonic()) > 0:
            self._end_set.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left_s == math.inf else left_s):
                    await self._end_set.wait()
        self._cause = "it did not end in the time that a stop may take, and was killed"
        log.error("kill", pid=self.pid, reason=self._cause)
        self.kill()
