"""`Supervisor`: starts worker processes, watches them, and speaks for them to the store when they cannot.

It runs no user code, so nothing can keep it from its beats: while a worker's process lives and shows signs of life, or
one of its handlers may still be busy, its leases hold. When the process dies the supervisor knows it at once, starts
another, and settles what it held: a crash for the jobs that had started, and back with the others.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.backoff import Backoff
from goqueue.engine.burials import Burials
from goqueue.engine.child import EXIT_MISCONFIGURED
from goqueue.engine.ending import end
from goqueue.engine.worker_process import WorkerProcess
from goqueue.model.errors import CannotStart
from goqueue.model.job import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from goqueue.engine.burials import Get
    from goqueue.model.lease import Beat, Beaten
    from goqueue.model.outcome import Answer, Settlement
    from goqueue.settings import WorkerSettings

STABLE_S: Final = 30.0
"""A process that has lived this long starts again at once, however often it failed before."""
RESTART_MAX_S: Final = 30.0
UP_S: Final = 120.0
"""A replacement has this long to register; then it is killed, and the one that it should replace goes on."""

log = structlog.get_logger("goqueue.supervisor")


class Supervisor:
    """Runs ``settings.processes`` workers, each ``target(child)`` in a process of its own (see `goqueue.engine.child`).

    ``payload`` is handed to the target as it is. ``extend`` and ``settle`` are the store's: the supervisor beats for
    its children and buries them with it. ``get`` is, too: with it the log tells which jobs a death has made dead.
    """

    def __init__(
        self,
        target: str,
        payload: str,
        settings: WorkerSettings,
        *,
        extend: Callable[[Beat], Awaitable[Beaten]],
        settle: Callable[[Sequence[Settlement]], Awaitable[list[Answer]]],
        get: Get | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self.restarts = 0
        self._target = target
        self._payload = payload
        self._settings = settings
        self._extend = extend
        self._settle = settle
        self._tenant = tenant
        self._stopping = asyncio.Event()
        self._now = False
        self._living: set[WorkerProcess] = set()
        self._worked = False
        self._burials = Burials(get)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        return tuple(sorted(one.pid for one in self._living if one.lives))

    def stop(self, *, now: bool = False) -> None:
        """Stop all processes gracefully; a second call, or ``now``, makes them hand back at once."""
        self._now = self._now or now or self._stopping.is_set()
        self._stopping.set()
        for one in self._living:
            one.stop(now=self._now)

    async def run(self) -> None:
        """Keep the processes running until `stop`, and return when the last has ended and is buried.

        Raises `CannotStart` if one says that starting it again would not help, and none has worked so far. Later such
        a thing comes and goes (a password that is being changed, a deployment half done), and ends nothing.
        """
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self._settings.processes)]
        try:
            done, _ = await asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION)
            if any(keeper.exception() for keeper in done):
                self.stop()
            results = await asyncio.gather(*keepers, return_exceptions=True)
            await self._burials.close()
        finally:
            for one in list(self._living):
                one.kill()
            await end(keepers)
            await self._burials.close(within_s=0.0)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _keep(self, number: int) -> None:
        """Keep one place of the fleet taken: by one process, and for a while by a second that leaves it."""
        backoff = Backoff(base_s=0.2, cap_s=RESTART_MAX_S)
        present: _Life | None = None
        leaving: _Life | None = None
        try:
            while not self._stopping.is_set():
                if present is None:
                    present = await self._begin(number)
                if present is None:
                    await _first_of(self._stopping.wait(), timeout_s=backoff.next_s())
                    continue
                await _first_of(present.ended, present.process.asks.wait())
                if present.ended.done():
                    code, lived_s = present.ended.result(), time.monotonic() - present.began_at
                    present = None
                    await self._pause(number, code, lived_s, backoff)
                    continue
                if leaving is not None:  # one too many at a time
                    await _first_of(leaving.ended, present.ended, self._stopping.wait())
                    if not leaving.ended.done():
                        continue
                after = await self._replace(number, present)
                if after is None:
                    await _first_of(present.ended, self._stopping.wait(), timeout_s=backoff.next_s())
                else:
                    present, leaving = after, present
            for life in (present, leaving):
                if life is not None:
                    await life.ended
        finally:
            for life in (present, leaving):
                if life is not None:
                    life.process.kill()
                    await end([life.ended])

    async def _begin(self, number: int) -> _Life | None:
        """Start a process. None if the system has none to give now (processes, memory, files): that ends no other."""
        await _first_of(self._burials.room(), self._stopping.wait())
        try:
            process = await WorkerProcess.spawn(
                self._target,
                self._payload,
                self._settings,
                tenant=self._tenant,
                extend=self._extend,
            )
        except OSError as error:
            log.error("spawn", worker=number, error=str(error), do="look at the limits of processes, memory and files")
            return None
        self._living.add(process)
        if self._stopping.is_set():
            process.stop(now=self._now)
        log.info("spawn", worker=number, pid=process.pid, worker_id=process.worker_id)
        return _Life(process, self._live(process))

    async def _live(self, process: WorkerProcess) -> int:
        """Stay with a process until it has ended; its burial then goes on beside the one that takes its place."""
        try:
            code = await process.run()
        finally:
            self._living.discard(process)
            self._worked = self._worked or process.up.is_set()
        if (burial := process.burial(self._settle)) is not None:
            self._burials.begin(burial)
        return code

    async def _pause(self, number: int, code: int, lived_s: float, backoff: Backoff) -> None:
        """Wait as long as one must before it is started again: the longer the more often it has failed."""
        self._worked = self._worked or any(one.up.is_set() for one in self._living)
        if code == EXIT_MISCONFIGURED and not self._worked:
            raise CannotStart("a worker process cannot start; what it wrote above says why")
        if self._stopping.is_set():
            return
        if lived_s > STABLE_S:
            backoff.reset()
        delay_s = backoff.next_s()
        self.restarts += 1
        log.warning("restart", worker=number, exit_code=code, delay_s=round(delay_s, 2))
        await _first_of(self._stopping.wait(), timeout_s=delay_s)

    async def _replace(self, number: int, old: _Life) -> _Life | None:
        """Start another in its place, and stop the old one when the new one is up: somebody works at any time.

        Returns None, and leaves the old one as it is, if the new one does not get that far.
        """
        new = await self._begin(number)
        if new is None:
            return None
        self.restarts += 1
        await _first_of(new.ended, new.process.up.wait(), old.ended, self._stopping.wait(), timeout_s=UP_S)
        if new.process.up.is_set() or old.ended.done() or self._stopping.is_set():
            log.info("replace", worker=number, old_pid=old.process.pid, new_pid=new.process.pid)
            # Nobody is in a hurry: what runs in the old one need not be run again from its beginning.
            patience_s = 0.0 if self._stopping.is_set() else self._settings.recycle_grace_s
            old.process.stop(now=self._now, patience_s=patience_s)
            return new
        log.error("replace", worker=number, old_pid=old.process.pid, reason="the new process did not come up in time")
        new.process.kill()
        await asyncio.gather(new.ended, return_exceptions=True)
        return None


class _Life:
    """A process with the task that stays with it until it has ended."""

    def __init__(self, process: WorkerProcess, work: Coroutine[object, object, int]) -> None:
        self.process = process
        self.began_at = time.monotonic()
        self.ended = asyncio.create_task(work)


async def _first_of(
    *waits: asyncio.Task[int] | Coroutine[object, object, bool], timeout_s: float | None = None
) -> None:
    """Wait for one of them; tasks go on, other waits are ended."""
    tasks = [one if isinstance(one, asyncio.Task) else asyncio.ensure_future(one) for one in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(task for one, task in zip(waits, tasks, strict=True) if task is not one)
