"""Handlers in processes of their own, one job at a time in each: CPU-bound ones, and jobs that have crashed before.

Not `concurrent.futures.ProcessPoolExecutor`, nor loky on top of it: when one of its processes dies, every job in the
pool fails with it, and it cannot kill the one process whose job has timed out. Here a death is one job's alone.
Not `multiprocessing`: its children import the parent's ``__main__`` again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.executors import wire
from goqueue.engine.executors.process import HandlerProcess
from goqueue.engine.failure import HandlerDied, HandlerNotStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.completion import Completer
    from goqueue.model.lease import Lease
    from goqueue.settings import WorkerSettings
    from goqueue.tasks.app import AnyTask
    from goqueue.tasks.context import ContextPort

START_TRIES_MAX: Final = 3
START_S: Final = 60.0
"""A new process must have taken its first job by then."""

log = structlog.get_logger("goqueue.engine")


class ProcessExecutor:
    """Children that are started when needed and used again, until they are worn: how many is the caller's to bound.

    ``app_ref`` (``module:attribute``) is the application that each of them enters; without it there is no lifespan in
    them, and a task is found only under its function's name in its module.
    """

    def __init__(self, settings: WorkerSettings, app_ref: str = "", completer: Completer | None = None) -> None:
        self._app_ref = app_ref
        self._completer = completer
        self._jobs_max = settings.recycle_jobs
        self._resident_bytes_max = settings.recycle_memory_bytes
        self._idle: list[HandlerProcess] = []
        self._all: set[HandlerProcess] = set()
        self._reaping: set[asyncio.Task[object]] = set()

    def reaches(self, task: AnyTask) -> bool:
        """Tell whether a child will find this task."""
        if self._app_ref:
            return True
        function = task.function
        if function.__module__ == "__main__" or "<locals>" in function.__qualname__:
            return False
        found: object = sys.modules.get(function.__module__)
        for part in function.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is task

    async def run(
        self,
        task: AnyTask,
        lease: Lease,
        *,
        port: ContextPort,
        claimed_at: float,
        started: Callable[[HandlerProcess], None],
        completing: Callable[[bool], object],
        alone: bool = False,
    ) -> wire.Done:
        """Run one job and return its outcome. ``started`` is called when its handler is about to start, ``completing``
        when it completes its job by itself.

        With ``alone`` it has a process that has run nothing before and runs nothing after it. Raises `HandlerDied` if
        the process dies under it, and `HandlerNotStarted` if none would start. Cancelling this kills the process.
        """
        child = await self._take(task, lease, claimed_at, alone=alone)
        try:
            started(child)
            done = await child.converse(lease, port, completing)
        except BaseException:
            self._kill(child)
            raise
        if alone or done.last or self._worn(child, done):
            self._retire(child)
        else:
            self._idle.append(child)
        return done

    async def _take(self, task: AnyTask, lease: Lease, claimed_at: float, *, alone: bool) -> HandlerProcess:
        """Return a process that has taken the job. One that died while it was idle was not this job's doing."""
        function = task.function
        spawned = 0
        while spawned < START_TRIES_MAX:  # those that died while they were idle, perhaps all of them, do not count
            if self._idle and not alone:
                child = self._idle.pop()
            else:
                spawned += 1
                child = await self._spawn()
            self._all.add(child)
            since_claim_s = time.monotonic() - claimed_at
            try:
                async with asyncio.timeout(START_S):
                    await child.begin(wire.Run(function.__module__, function.__qualname__, lease, since_claim_s))
            except (HandlerDied, TimeoutError) as error:
                log.warning("restart", process=child.pid, reason=str(error))
                self._kill(child)
            except BaseException:
                self._kill(child)
                raise
            else:
                return child
        raise HandlerNotStarted(f"no process for the handler would start in {START_TRIES_MAX} tries")

    async def _spawn(self) -> HandlerProcess:
        try:
            return await HandlerProcess.spawn(self._app_ref, self._completer)
        except OSError as error:
            raise HandlerNotStarted(f"no process for the handler would start: {error}") from error

    def _worn(self, child: HandlerProcess, done: wire.Done) -> bool:
        if 0 < self._jobs_max <= child.jobs or 0 < self._resident_bytes_max <= done.resident_bytes:
            log.info("recycle", process=child.pid, jobs=child.jobs, resident_bytes=done.resident_bytes)
            return True
        return False

    async def close(self) -> None:
        """End all processes. Idempotent."""
        children, self._all, self._idle = self._all, set(), []
        await asyncio.gather(*(child.end() for child in children), *self._reaping)

    def _retire(self, child: HandlerProcess) -> None:
        self._all.discard(child)
        self._reap(asyncio.get_running_loop().create_task(child.end()))

    def _kill(self, child: HandlerProcess) -> None:
        child.kill()
        self._all.discard(child)
        self._reap(asyncio.get_running_loop().create_task(child.process.wait()))

    def _reap(self, reaping: asyncio.Task[object]) -> None:
        self._reaping.add(reaping)
        reaping.add_done_callback(self._reaping.discard)
