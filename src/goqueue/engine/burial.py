"""What becomes of the leases of a worker process that has died: a crash for what ran in it, and back with the rest."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from goqueue.engine.backoff import Backoff
from goqueue.engine.journal import Began
from goqueue.engine.verdict import RELEASE
from goqueue.model import limits
from goqueue.model.errors import GoQueueError, InvalidInput, Unavailable
from goqueue.model.job import ErrorInfo
from goqueue.model.lease import Beat
from goqueue.model.outcome import Answer, Crash, Dead, Outcome, Release, Retry, Settlement
from goqueue.tasks.cutting import cut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from goqueue.model.lease import Beaten, Held, WorkerInfo
    from goqueue.settings import WorkerSettings

    Key = tuple[str, int]

WORKER_DIED: Final = "WorkerDied"
"""Type of the error that is kept with a job whose worker process died under it."""
BUSY_TRIES_MAX: Final = 8
"""A job whose row somebody has locked is tried so often; then the sweep, which comes again and again, has it."""
PIECES_MAX: Final = 1_000
APART_AGAIN_S: Final = 1.0
"""A job whose own process ended with its worker runs again after this."""
AGAIN_MAX_S: Final = 2.0
"""Longest pause before the next try while the store is away. Short: when it is back, the sweep comes, too."""
SAY_AGAIN_S: Final = 30.0
"""That the store is still away is said this often."""

log = structlog.get_logger("goqueue.supervisor")


def cause_of_death(code: int) -> str:
    """Say how a process ended whose exit code, as `subprocess` has it, is ``code``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (from outside; the system does that when memory runs out)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"


class Burial:
    """Settles what a dead worker held, in pieces, and takes its leave.

    ``started`` names the attempts (id, fence) that had begun, perhaps among others that have been settled long ago:
    the store says what is still undecided. Those in processes of their own have spent their attempt and did not crash.
    ``will`` has the outcomes that the worker could not bring to the store before its end: they count as they are.
    `crashed`, `spent`, `stored` and `released` tell which jobs came to what.
    """

    def __init__(
        self,
        worker: WorkerInfo,
        started: Mapping[Key, Began],
        cause: str,
        settings: WorkerSettings,
        *,
        tenant: str,
        extend: Callable[[Beat], Awaitable[Beaten]],
        settle: Callable[[Sequence[Settlement]], Awaitable[list[Answer]]],
        will: Mapping[Key, Outcome] | None = None,
    ) -> None:
        self.cause = cause
        self.pid = worker.pid
        self.tenant = tenant
        self.crashed: list[str] = []
        self.spent: list[str] = []
        self.stored: list[str] = []
        self.released: list[str] = []
        self._worker = worker
        self._started = started
        self._will = dict(will or {})
        error = ErrorInfo(WORKER_DIED, cut(f"its worker process died: {cause}", limits.REASON_CHARS_MAX))
        self._crash = Crash(error)
        self._apart = Retry(APART_AGAIN_S, error)
        self._apart_last = Dead(error)
        self._lease_s = settings.lease_s
        self._extend = extend
        self._settle = settle
        self._busy: dict[Key, tuple[Held, int]] = {}

    async def perform(self) -> None:
        """Try until it is done, however long the store is away: whoever waits for it sets the bound.

        Once the lease is over the sweep may come first; what it has taken is not found any more.
        """
        await self._persist(self._settle_all)
        await self._persist(self._leave)

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(cap_s=AGAIN_MAX_S)
        say_at = 0.0
        while True:
            try:
                async with asyncio.timeout(self._lease_s / 2):
                    return await step()
            except (Unavailable, TimeoutError) as error:
                if time.monotonic() >= say_at:
                    say_at = time.monotonic() + SAY_AGAIN_S
                    log.warning("bury", pid=self.pid, error=str(error) or "no answer in time", do="it is tried again")
            except Exception:
                if time.monotonic() >= say_at:
                    say_at = time.monotonic() + SAY_AGAIN_S
                    log.exception("bury", pid=self.pid)
            await asyncio.sleep(backoff.next_s())

    async def _settle_all(self) -> None:
        """Its lease goes on meanwhile: swept now, all of it would count as crashed."""
        backoff = Backoff()
        for _ in range(PIECES_MAX):
            given_up = tuple(held for held, tries in self._busy.values() if tries >= BUSY_TRIES_MAX)
            strays = (await self._beat(self._lease_s, held=given_up)).strays
            if not strays:
                return
            if await self._settle_some(strays):
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next_s())

    async def _leave(self) -> None:
        """From here on a claim that was still on its way is refused. One that came through before it is a stray."""
        strays = (await self._beat(0.0)).strays
        known = self._busy.keys()
        await self._settle_some([one for one in strays if (one.ref.id, one.fence) not in known])

    async def _beat(self, ttl_s: float, *, held: tuple[Held, ...] = ()) -> Beaten:
        return await self._extend(Beat(worker=self._worker, ttl_s=ttl_s, held=held, draining=True, tenant=self.tenant))

    async def _settle_some(self, strays: Sequence[Held]) -> int:
        """Settle these; return how many of them are decided now."""
        decided = 0
        for at in range(0, len(strays), limits.SETTLE_MAX):
            piece = strays[at : at + limits.SETTLE_MAX]
            outcomes = [Settlement(one.ref, one.fence, self._outcome(one)) for one in piece]
            try:
                answers = await self._settle(outcomes)
            except Exception as error:
                if not isinstance(error, InvalidInput) and isinstance(error, GoQueueError | TimeoutError):
                    raise
                decided += await self._settle_apart(piece, error)
                continue
            for one, settlement, answer in zip(piece, outcomes, answers, strict=True):
                key = (one.ref.id, one.fence)
                if answer is Answer.BUSY:
                    self._busy[key] = (one, self._busy.get(key, (one, 0))[1] + 1)
                    continue
                decided += 1
                if answer is not Answer.LOST:
                    self._count(key, settlement.outcome)
        return decided

    async def _settle_apart(self, piece: Sequence[Held], error: Exception) -> int:
        """Settle each alone: one of these cannot be stored, and the others must neither wait for it nor be changed."""
        if len(piece) > 1:
            return sum([await self._settle_some([one]) for one in piece])
        (one,) = piece
        key = (one.ref.id, one.fence)
        log.error("settle", answer="refused", job_id=one.ref.id, fence=one.fence, error=repr(error))
        if self._will.pop(key, None) is None:  # nor without its will: the sweep has it
            self._busy[key] = (one, BUSY_TRIES_MAX)
        return 0

    def _count(self, key: Key, outcome: Outcome) -> None:
        if outcome is self._crash:
            self.crashed.append(key[0])
        elif isinstance(outcome, Release):
            self.released.append(key[0])
        elif outcome is self._apart or outcome is self._apart_last:
            self.spent.append(key[0])
        else:
            self.stored.append(key[0])

    def _outcome(self, one: Held) -> Outcome:
        key = (one.ref.id, one.fence)
        if key in self._will:
            return self._will[key]
        began = self._started.get(key)
        match began:
            case None:
                return RELEASE
            case Began.HERE:
                return self._crash
            case Began.APART:
                return self._apart
            case Began.APART_LAST:
                return self._apart_last
            case _:
                assert_never(began)
