"""Brings leases in and outcomes out: one trip does both, and two trips are on their way at a time.

While the database works on one trip, Python runs what the other has brought. Outcomes gather meanwhile, so that the
batches grow with the load and nothing waits for a timer when there is none.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.alarm import Alarm
from goqueue.engine.backoff import Backoff
from goqueue.model import limits
from goqueue.model.errors import GoQueueError, InvalidInput, Unavailable
from goqueue.model.lease import Want

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.prefetch import Prefetch
    from goqueue.engine.runner import Runner
    from goqueue.engine.settler import Batch, Settler
    from goqueue.settings import WorkerSettings
    from goqueue.store.port import WorkStore

PUMPS: Final = 2
POLL_SPREAD: Final = 0.25
"""A poll comes this share earlier or later, so that the polls of many workers spread."""

log = structlog.get_logger("goqueue.engine")


def poll_max_s(settings: WorkerSettings) -> float:
    """Return the longest time between two polls."""
    return settings.poll_s * (1 + POLL_SPREAD)


class Fetcher:
    """The pumps of one process. `wake` says that something has changed: leases, slots, outcomes.

    ``went_idle`` is called when a claim has found nothing any more, ``doubted`` when nobody knows what became of one,
    ``cancels`` when the store has cancel requests.
    """

    def __init__(
        self,
        store: WorkStore,
        settings: WorkerSettings,
        *,
        worker_id: str,
        tenant: str,
        queues: tuple[str, ...],
        runner: Runner,
        settler: Settler,
        prefetch: Prefetch,
        went_idle: Callable[[], None],
        doubted: Callable[[], None],
        cancels: Callable[[], None],
    ) -> None:
        self.open = False
        """Whether to claim: the worker is registered and not stopping."""
        self.idle = False
        """Whether the last claim found all queues empty."""
        self.flying: set[int] = set()
        """The trips that are under way, by number."""
        self.trip_done = asyncio.Event()
        """Pulses after each trip."""
        self._store = store
        self._settings = settings
        self._worker_id = worker_id
        self._tenant = tenant
        self._queues = queues
        self._runner = runner
        self._settler = settler
        self._prefetch = prefetch
        self._prefetch_max = settings.prefetch_jobs
        self._went_idle = went_idle
        self._doubted = doubted
        self._cancels = cancels
        self._capacity = settings.concurrency + settings.prefetch_jobs
        self._half = max(1, min(self._capacity // 2, settings.settle_batch))
        self._asked = 0
        self._due = True
        self._full = False
        self._signals_seen = 0
        self._turn = asyncio.Event()
        self._numbers = itertools.count(1)
        self._trips = itertools.count(1)
        self._poll: asyncio.TimerHandle | None = None
        self._alarm = Alarm(poll_max_s(settings), self.look_again, loop=asyncio.get_running_loop())
        self._available = True
        self._lapsed_at = -math.inf

    @property
    def in_flight(self) -> int:
        """How many trips are under way."""
        return len(self.flying)

    # -- when to go -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let a pump go if there is a reason. Called once for each turn of the runner."""
        if not self._turn.is_set() and self._should_go():
            self._turn.set()

    def _should_go(self) -> bool:
        """A trip is worth it when it is half full, or when nothing more will join it soon."""
        outcomes = self._settler.ready
        room = self._room() if self._due else 0
        if self._runner.busy:
            return outcomes >= self._half or room >= self._half
        return outcomes > 0 or room > 0

    def _room(self) -> int:
        if not self.open or self._settler.waiting >= self._settings.outcomes_waiting_max:
            return 0
        runner, room = self._runner, self._runner.room
        if self._prefetch.allowed < self._prefetch_max:
            taken = runner.slots_taken + runner.slots_wanted
            room = min(room, self._settings.concurrency + self._prefetch.allowed - taken)
        return min(room - self._asked, limits.CLAIM_MAX)

    def lapse(self) -> None:
        """Claim no more until `open` is set again: the lease is over, also for what a claim under way will bring."""
        self.open = False
        self._lapsed_at = time.monotonic()

    def look_again(self) -> None:
        """Claim although the last claim found nothing: a wake-up, or the poll interval."""
        self._due = True
        self._signals_seen += 1
        self.wake()

    def look_in(self, delay_s: float) -> None:
        """Claim again in ``delay_s`` seconds, unless a poll comes before that anyway."""
        if self.open:
            self._alarm.set(delay_s)

    def _on_poll(self) -> None:
        self._arm_poll()
        self.look_again()

    def _arm_poll(self) -> None:
        delay_s = self._settings.poll_s * (1 + POLL_SPREAD * (2 * random.random() - 1))  # noqa: S311
        self._poll = asyncio.get_running_loop().call_later(delay_s, self._on_poll)

    # -- loops ------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Turn wake-ups into looks. Without them polling is enough, so nothing here may end the worker."""
        backoff = Backoff()
        while True:
            signals = self._store.signals(self._tenant, self._queues)
            try:
                async for signal in signals:
                    backoff.reset()
                    if signal.cancels:
                        self._cancels()
                    else:
                        self.look_again()
            except Unavailable:
                pass
            except Exception:
                log.exception("listen")
            await asyncio.sleep(backoff.next_s())

    async def pump(self) -> None:
        """Make trips until cancelled."""
        if self._poll is None:
            self._arm_poll()
        backoff = Backoff()
        request_id = ""
        while True:
            if not self._should_go():
                self._turn.clear()
                await self._turn.wait()
                continue
            room = max(0, self._room())
            batch = self._settler.take()
            request_id = request_id or f"{self._worker_id}:{next(self._numbers)}"
            self._asked += room
            if room and not self._full:
                self._due = False  # one look is enough to find out; a second beside it only pays while there is plenty
            trip = next(self._trips)
            self.flying.add(trip)
            try:
                await self._trip(room, batch, request_id)
                request_id = ""
                backoff.reset()
                continue
            except Unavailable as error:
                self._settler.put_back(batch)
                self._unavailable(error)
            except InvalidInput as error:
                log.exception("trip", room=room, outcomes=len(batch.outcomes))
                if batch.outcomes:
                    self._settler.refused(batch, error)
            except GoQueueError as error:
                # About the store as a whole (rights, schema, isolation): no outcome is to blame, each is kept.
                log.warning("trip", error=str(error), code=error.code, outcomes=len(batch.outcomes))
                self._settler.put_back(batch)
            except Exception:  # a bug here or in the store must not end the worker, nor cost a job its result
                log.exception("trip", room=room, outcomes=len(batch.outcomes))
                self._settler.apart(batch)
            except asyncio.CancelledError:
                self._settler.put_back(batch)
                raise
            finally:
                self.flying.discard(trip)
                self._asked -= room
                self.trip_done.set()
            if room:
                self._due = True
                self._doubted()
            await asyncio.sleep(backoff.next_s())

    async def _trip(self, room: int, batch: Batch, request_id: str) -> None:
        # A suspect goes alone: its failure must not be taken for one of the claim.
        if room <= 0 or batch.suspect >= 0:
            if batch.outcomes:
                self._settler.answered(batch, await self._store.settle(batch.outcomes))
                self._back()
            return
        seen = self._signals_seen
        want = Want(
            worker_id=self._worker_id, queues=self._queues, total=room, tenant=self._tenant, request_id=request_id
        )
        sent_at = time.monotonic()
        claimed = await self._store.claim(want, batch.outcomes)
        self._settler.answered(batch, claimed.settled)
        self._back()
        found = len(claimed.leases)
        self._full = found >= room
        self._due = self._full or seen != self._signals_seen
        if found and sent_at <= self._lapsed_at:
            log.warning("hand_back", jobs=found, reason="the lease was over before the answer to their claim came")
            self._runner.refuse(claimed.leases)
        elif found:
            self._runner.add(claimed.leases, claimed_at=sent_at)
        if self.idle != (not self._due):
            self.idle = not self._due
            if self.idle:
                self._went_idle()

    def _back(self) -> None:
        if not self._available:
            self._available = True
            log.info("resume")

    def _unavailable(self, error: Exception) -> None:
        if self._available:
            self._available = False
            log.warning("wait", reason="the store is unavailable", error=str(error), outcomes=self._settler.waiting)

    def close(self) -> None:
        """Stop polling. Idempotent."""
        self.open = False
        self._alarm.close()
        if self._poll is not None:
            self._poll.cancel()
