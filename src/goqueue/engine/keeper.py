"""Keeps the worker's leases alive by beats, and knows by its own monotonic clock until when they hold."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.backoff import Backoff
from goqueue.engine.verdict import RELEASE
from goqueue.model.errors import Unavailable
from goqueue.model.lease import Beat
from goqueue.model.outcome import Settlement
from goqueue.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.fetcher import Fetcher
    from goqueue.engine.runner import Runner
    from goqueue.engine.settler import Settler
    from goqueue.model.lease import Beaten, Held, WorkerInfo
    from goqueue.store.port import WorkStore

BEAT_SOON_S: Final = 1.0
"""A beat before its time (the worker has become idle) comes at most this often."""
BEAT_AT_ONCE_S: Final = 0.1
"""A beat to hear of a cancel request comes at most this often, and at a random instant within it: all workers hear the
same wake-up. The next one comes at the earliest after twice that, and so on up to `BEAT_SOON_S`: a storm of requests is
heard of once a second."""
STRAYS_KEPT_MAX: Final = 10_000

log = structlog.get_logger("goqueue.engine")


BEAT_SPREAD: Final = 0.1
"""A beat comes up to this share of the interval earlier or later, so that those of a fleet which was started at one
moment spread over time."""
DEFAULT_BEAT_S: Final = WorkerSettings().beat_s
"""Who has not chosen another one need not hear that it does not fit to a shorter lease."""
BEATS_IN_LEASE: Final = 3
"""At least so many, so that one may get lost. No beat is put off beyond that."""


def beat_every_s(settings: WorkerSettings) -> float:
    """Return the interval of beats."""
    return min(settings.beat_s, settings.lease_s / BEATS_IN_LEASE)


def beat_in_s(settings: WorkerSettings, random01: float) -> float:
    """Return when the next beat comes after one: jittered by ``random01``, and never later than is safe."""
    jittered_s = beat_every_s(settings) * (1 + BEAT_SPREAD * (2 * random01 - 1))
    return min(jittered_s, settings.lease_s / BEATS_IN_LEASE)


class Keeper:
    """Beats every ``beat_s``. ``beaten`` is called after each success, ``lapsed`` when the leases must be given up,
    ``news`` to hear what others have done for this worker.

    Leases hold from *before* the request for them was sent: whatever the network did to the answer, the store has
    counted from a later instant. Instants are of the monotonic clock.
    """

    def __init__(
        self,
        store: WorkStore,
        settings: WorkerSettings,
        *,
        info: WorkerInfo,
        tenant: str,
        runner: Runner,
        settler: Settler,
        fetcher: Fetcher,
        beaten: Callable[[Beat], None],
        lapsed: Callable[[], None],
        news: Callable[[], None],
    ) -> None:
        self.valid_until = 0.0
        self.draining = False
        self._store = store
        self._settings = settings
        self._info = info
        self._tenant = tenant
        self._runner = runner
        self._settler = settler
        self._fetcher = fetcher
        self._beaten = beaten
        self._lapsed = lapsed
        self._news = news
        self._beat_s = beat_every_s(settings)
        if settings.beat_s > self._beat_s and settings.beat_s != DEFAULT_BEAT_S:
            log.warning(
                "beat",
                beat_s=settings.beat_s,
                lease_s=settings.lease_s,
                reason=f"beat_s is more than a third of lease_s: beats come every {self._beat_s:g} s instead",
                do="set beat_s to a third of lease_s or less",
            )
        self._loop = asyncio.get_running_loop()
        self._begun_at = -math.inf
        self._wanted_at = math.inf
        self._wish = asyncio.Event()
        self._at_once_s = BEAT_AT_ONCE_S
        self._urgent = False
        self._one_at_a_time = asyncio.Lock()
        self._left = False
        self._expiry: asyncio.TimerHandle | None = None
        self._strays: dict[tuple[str, int], frozenset[int]] = {}
        """Strays of the last beat, and the trips that were under way when each was first seen."""

    # -- validity ---------------------------------------------------------------------------------

    def extend_to(self, sent_at: float, ttl_s: float) -> None:
        """Note that the store was told at ``sent_at`` (monotonic) to keep this worker for ``ttl_s``."""
        until = sent_at + ttl_s - min(self._settings.lease_margin_s, ttl_s / 2)
        if until > self.valid_until:
            self.valid_until = until
            if self._expiry is None:
                self._expiry = self._loop.call_later(max(0.0, until - time.monotonic()), self._on_expiry)

    def _on_expiry(self) -> None:
        self._expiry = None
        # After the loop was blocked the supervisor may have beaten for us: hear it before giving anything up.
        self._news()
        left_s = self.valid_until - time.monotonic()
        if left_s > 0:
            self._expiry = self._loop.call_later(left_s, self._on_expiry)
            return
        log.error("lapse", running=len(self._runner.running), waiting=self._runner.waiting)
        self._lapsed()

    # -- beats ------------------------------------------------------------------------------------

    def beat_soon(self) -> None:
        """Beat before the interval is over: something has changed that the store should know."""
        self._want(self._begun_at + BEAT_SOON_S)

    def beat_at_once(self) -> None:
        """Beat as soon as may be: the store knows something that should not wait."""
        self._urgent = True
        spread_s = BEAT_AT_ONCE_S * random.random()  # noqa: S311
        self._want(max(self._begun_at + self._at_once_s, time.monotonic()) + spread_s)

    def _want(self, at: float) -> None:
        if at < self._wanted_at:
            self._wanted_at = at
            self._wish.set()

    async def run(self) -> None:
        """Beat until cancelled. Returns never; the first beat registers the worker."""
        backoff = Backoff(cap_s=min(1.0, self._beat_s))
        while True:
            try:
                async with asyncio.timeout(self._beat_s):
                    await self.beat()
            except (Unavailable, TimeoutError) as error:
                log.warning("beat", error=str(error) or "no answer in time", left_s=self._left_s())
                await asyncio.sleep(backoff.next_s())
                continue
            except Exception:
                log.exception("beat")
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            await self._pause()

    async def _pause(self) -> None:
        """Wait for the next beat's time, or until somebody wants one before it."""
        beat_at = self._begun_at + beat_in_s(self._settings, random.random())  # noqa: S311
        while (left_s := min(self._wanted_at, beat_at) - time.monotonic()) > 0:
            self._wish.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._wish.wait()
        self._at_once_s = min(self._at_once_s * 2, BEAT_SOON_S) if self._urgent else BEAT_AT_ONCE_S

    async def beat(self) -> None:
        """Tell the store once that this worker lives and what it holds; act on what it answers."""
        async with self._one_at_a_time:
            await self._beat_once()

    async def _beat_once(self) -> None:
        held = self._runner.held()
        beat = self._beat(held)
        # What is wanted from now on may be about something that this beat does not see any more.
        self._wanted_at, self._urgent = math.inf, False
        sent_at = self._begun_at = time.monotonic()
        if self._left:
            return
        beaten = await self._store.extend(beat)
        self.extend_to(sent_at, beat.ttl_s)
        self._runner.said(held, beaten.unkept)
        self._beaten(beat)
        self._hear(held, beaten)

    async def leave(self) -> None:
        """Take leave: what the store still thinks is ours is an orphan at once."""
        async with self._one_at_a_time:  # a beat that the leave overtakes would bring the worker's row back to life
            self._left = True
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None
            await self._store.extend(Beat(worker=self._info, ttl_s=0.0, draining=True, tenant=self._tenant))

    def _beat(self, held: tuple[Held, ...]) -> Beat:
        return Beat(
            worker=self._info,
            ttl_s=self._settings.lease_s,
            held=held,
            running=len(self._runner.running),
            idle=self._fetcher.idle,
            draining=self.draining,
            tenant=self._tenant,
        )

    def _hear(self, held: tuple[Held, ...], beaten: Beaten) -> None:
        if beaten.lost or beaten.cancel:
            by_id = {one.ref.id: one for one in held}
            self._runner.lose(by_id[ref.id] for ref in beaten.lost if ref.id in by_id)
            self._runner.cancel(by_id[ref.id] for ref in beaten.cancel if ref.id in by_id)
        if beaten.strays or self._strays:
            self._hand_back_strays(beaten.strays[:STRAYS_KEPT_MAX])

    def _hand_back_strays(self, strays: tuple[Held, ...]) -> None:
        """Give back what was claimed for us by a call whose answer has been cut off.

        A claim that is still under way looks the same: its job is a stray only once it has been seen twice and every
        trip has ended that was under way the first time. Then its answer is here, or will never be.
        """
        flying = frozenset(self._fetcher.flying)
        seen = {(one.ref.id, one.fence): self._strays.get((one.ref.id, one.fence), flying) for one in strays}
        mine = {(one.ref.id, one.fence) for one in self._runner.held()}
        for one in strays:
            key = (one.ref.id, one.fence)
            if key in self._strays and not seen[key] & flying and key not in mine and not self._settler.knows(one):
                log.warning("release", job_id=one.ref.id, fence=one.fence, reason="its claim was never answered")
                self._settler.add(Settlement(one.ref, one.fence, RELEASE))
        if seen:
            self._fetcher.wake()
        self._strays = seen

    def _left_s(self) -> float:
        return round(self.valid_until - time.monotonic(), 1)
