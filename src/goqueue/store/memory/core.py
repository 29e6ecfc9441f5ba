"""`Memory`: the state that the facades share, and the moves that every verb is made of.

The verbs themselves are in `enqueueing`, `working`, `asking` and `upkeep`, as functions over this state; the facades
wrap each call in `Memory.verb`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from goqueue.model.job import JobRef
from goqueue.model.lease import Signal
from goqueue.model.state import Event, StoredState
from goqueue.settings import Retention, StoreSettings
from goqueue.store.memory.clock import Clock
from goqueue.store.memory.row import bounded_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from goqueue.model.lease import WorkerRecord
    from goqueue.store.memory.row import KeyId, Row

CANCELLED = "cancelled"
"""Reason of a cancelled job when nobody gave another."""
CRASHED = "crashed"
DOUBLINGS_MAX = 30
"""Of a crash delay: 2^30 s are beyond the longest delay, and far from what a float can hold."""


@dataclass(slots=True)
class Hold:
    """Who holds a unique key. ``until`` is None while the holder is not final, or when it holds the key for good.

    A hold with an end may outlive its job, which retention 0 has removed."""

    job_id: str
    until: datetime | None = None


@dataclass(slots=True)
class Office:
    """Who leads, and until when."""

    holder: str
    number: int
    expires_at: datetime


@dataclass(slots=True)
class Entry:
    """A record and its end."""

    value: bytes
    version: int
    expires_at: datetime | None


class Memory:
    """All that a memory store knows. Share one between a `SyncMemoryStore` and a `MemoryStore` to see the same jobs."""

    def __init__(self, settings: StoreSettings | None = None, *, clock: Clock | None = None) -> None:
        self.settings = settings or StoreSettings()
        self.clock = clock or Clock()
        self._lock = threading.RLock()
        self._instant: datetime | None = None
        self.live: dict[tuple[str, str], Row] = {}
        """Jobs that are not final, by (tenant, id)."""
        self.past: dict[tuple[str, str], Row] = {}
        """Final jobs, by (tenant, id)."""
        self.keys: dict[KeyId, Hold] = {}
        self.workers: dict[tuple[str, str], WorkerRecord] = {}
        self.paused: set[tuple[str, str]] = set()
        self.offices: dict[str, Office] = {}
        self.records: dict[str, Entry] = {}
        self.listeners: dict[object, Callable[[str, Signal], None]] = {}
        """Called with (tenant, signal), under the lock."""

    @contextmanager
    def verb(self) -> Iterator[None]:
        """Hold the lock, and stop the clock: all that one verb does happens at one instant, also between threads."""
        with self._lock:
            self._instant = self.clock.now()
            try:
                yield
            finally:
                self._instant = None

    def now(self) -> datetime:
        """Return the store's instant."""
        return self._instant or self.clock.now()

    def time_travel(self, seconds: float) -> None:
        """Move the store's clock, for tests."""
        self.clock.advance(seconds)

    # -- look-ups -------------------------------------------------------------------------------------

    def history(self, tenant: str, job_id: str) -> Row | None:
        """Return a final job that is still kept."""
        row = self.past.get((tenant, job_id))
        return None if row is None or self.expired(row.expires_at) else row

    def find(self, tenant: str, job_id: str) -> Row | None:
        """Return a job, live before final."""
        return self.live.get((tenant, job_id)) or self.history(tenant, job_id)

    def all(self, tenant: str) -> Iterator[Row]:
        """Yield every job of a tenant once."""
        yield from (row for (owner, _), row in self.live.items() if owner == tenant)
        for owner, job_id in self.past:
            if owner == tenant and (owner, job_id) not in self.live:
                row = self.history(owner, job_id)
                if row is not None:
                    yield row

    def expired(self, instant: datetime | None) -> bool:
        """Has ``instant`` come? None never does."""
        return instant is not None and instant <= self.now()

    def alive(self, tenant: str, worker_id: str | None) -> bool:
        """Is there a row of this worker, and is it not expired?"""
        worker = self.workers.get((tenant, worker_id or ""))
        return worker is not None and not self.expired(worker.expires_at)

    # -- moves ----------------------------------------------------------------------------------------

    def later(self, delay_s: float) -> datetime:
        """Return now plus a delay, which is bounded whatever a worker sends."""
        return self.now() + timedelta(seconds=bounded_s(delay_s))

    def finish(self, row: Row, *, reason: str | None = None, result: bytes | None = None) -> None:
        """Move a job that has just become final to the history; free its key unless its final state holds it."""
        now = self.now()
        place = (row.job.tenant, row.job.id)
        row.finished_at, row.reason, row.result = now, reason, result
        retention_s = self._retention_s(row)
        row.expires_at = None if retention_s is None else now + timedelta(seconds=retention_s)
        self.live.pop(place, None)
        if retention_s != 0:
            self.past[place] = row
        unique = row.job.unique
        if row.key is None or unique is None:
            return
        window_s = unique.window_s
        if row.public(now) not in unique.final_states or (retention_s == 0 and window_s is None):
            self.free_key(row)
        elif window_s is not None:
            # Without a window the hold ends with the job, when it leaves the history.
            self.keys[row.key].until = now + timedelta(seconds=window_s)

    def crash(self, row: Row, last: Event, again: Event) -> None:
        """Decide on a job whose process has died, and which may have killed it: crashes are counted, and bounded."""
        used_up = row.crashes + 1 >= row.max_crashes or row.attempt >= row.max_attempts
        delay_s = self.settings.crash_delay_s * 2.0 ** min(row.crashes, DOUBLINGS_MAX)
        if used_up and row.cancel_requested_at is None:
            row.move(last)
            self.finish(row, reason=CRASHED)
        else:
            row.move(again)
            self.wait(row, self.later(delay_s))

    def wait(self, row: Row, run_at: datetime) -> None:
        """Let a job that is waiting again be due at ``run_at``; or end it, if somebody wants it cancelled."""
        if row.cancel_requested_at is not None:
            row.move(Event.CANCEL_REQUEST)
            self.finish(row, reason=CANCELLED)
            return
        row.run_at = run_at
        row.worker_id = None
        self.wake(row)

    def remove(self, row: Row) -> None:
        """Forget a job, and free its key."""
        place = (row.job.tenant, row.job.id)
        self.live.pop(place, None)
        self.past.pop(place, None)
        self.free_key(row)

    def wake(self, row: Row) -> None:
        """Tell listeners about a job that is due."""
        if row.state is StoredState.WAITING and self.expired(row.run_at):
            self.notify(row.job.tenant, Signal(row.job.queue))

    def notify(self, tenant: str, signal: Signal) -> None:
        """Tell listeners."""
        for listener in list(self.listeners.values()):
            listener(tenant, signal)

    # -- unique keys ----------------------------------------------------------------------------------

    def holder(self, key: KeyId) -> JobRef | None:
        """Name the job that holds ``key`` now."""
        hold = self.keys.get(key)
        if hold is None or self.expired(hold.until):
            return None
        tenant, queue, _ = key
        past = self.past.get((tenant, hold.job_id))
        if past is not None and self.expired(past.expires_at):
            return None
        return JobRef(tenant, queue, hold.job_id)

    def hold_key(self, row: Row) -> bool:
        """Let a job that is not final hold its key; False when another one does."""
        if row.key is None:
            return True
        holder = self.holder(row.key)
        if holder is not None and holder.id != row.job.id:
            return False
        self.keys[row.key] = Hold(row.job.id)
        return True

    def free_key(self, row: Row) -> None:
        """Free the key of a job, unless another one holds it by now."""
        if row.key is not None and (hold := self.keys.get(row.key)) is not None and hold.job_id == row.job.id:
            del self.keys[row.key]

    def _retention_s(self, row: Row) -> float | None:
        general, own = self.settings, self.settings.queue_retention.get(row.job.queue, Retention())
        kept = {
            StoredState.COMPLETED: (own.completed_s, general.completed_retention_s),
            StoredState.CANCELLED: (own.cancelled_s, general.cancelled_retention_s),
            StoredState.DEAD: (own.dead_s, general.dead_retention_s),
        }
        of_queue, of_all = kept[row.state]
        return of_all if isinstance(of_queue, msgspec.UnsetType) else of_queue
