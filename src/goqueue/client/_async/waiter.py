"""One waiter per client: however many jobs are awaited, one of those who wait asks for all of them.

Nobody works in the background: the first to wait leads, which means that it polls for everybody and hands out what it
finds; when it has its own answer, or gives up, another one of those who still wait takes over.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from goqueue.client._async.primitives import Signal
from goqueue.client.waiting import PollSchedule
from goqueue.model import limits
from goqueue.model.errors import ResultGone, StoreUnavailable

if TYPE_CHECKING:
    from goqueue.model.job import JobRecord, JobRef
    from goqueue.settings import ClientSettings
    from goqueue.store.jobs_async import AsyncJobStore


class OpenStore(Protocol):
    """Gives the store, opened."""

    async def __call__(self) -> AsyncJobStore:
        """Open it if it is not."""
        ...


class _Waiting:
    """One who waits. ``signal`` says: look at your fields."""

    def __init__(self, ref: JobRef) -> None:
        self.ref = ref
        self.signal = Signal()
        self.record: JobRecord | None = None
        self.error: BaseException | None = None
        self.leads = False

    @property
    def answered(self) -> bool:
        return self.record is not None or self.error is not None


class Waiter:
    """Waits for final records of jobs."""

    def __init__(self, store: OpenStore, settings: ClientSettings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()  # held for moments only, never across an await
        self._waiting: dict[JobRef, list[_Waiting]] = {}
        self._schedule = PollSchedule(settings)
        self._led = False
        self._nudge = Signal()
        self._failing_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def wait(self, ref: JobRef, timeout_s: float | None) -> JobRecord | None:
        """Return the job's record when it is final; None if that took longer than ``timeout_s``.

        Raises `ResultGone` for a job that does not exist, and what the store raises.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        mine = self._join(ref)
        try:
            while not mine.answered:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                if mine.leads:
                    await self._lead(left_s)
                else:
                    await mine.signal.wait(left_s)
            if mine.error is not None:
                raise mine.error
            return mine.record
        finally:
            self._leave(mine)

    def fail(self, error: BaseException) -> None:
        """Give everybody who waits this error."""
        with self._lock:
            for ref in list(self._waiting):
                self._answer(ref, None, error)
        self._nudge.set()

    # -- who waits ----------------------------------------------------------------------------------

    def _join(self, ref: JobRef) -> _Waiting:
        mine = _Waiting(ref)
        with self._lock:
            self._waiting.setdefault(ref, []).append(mine)
            self._schedule.add(ref, time.monotonic())
            mine.leads = not self._led
            self._led = True
        self._nudge.set()  # the leader may sleep for longer than this one should
        return mine

    def _leave(self, mine: _Waiting) -> None:
        with self._lock:
            others = self._waiting.get(mine.ref, [])
            if mine in others:
                others.remove(mine)
                if not others:
                    del self._waiting[mine.ref]
                    self._schedule.remove(mine.ref)
            if mine.leads:
                self._hand_over()

    def _hand_over(self) -> None:
        for waiting in self._waiting.values():
            waiting[0].leads = True
            waiting[0].signal.set()
            return
        self._led = False
        self._failing_since = None

    def _answer(self, ref: JobRef, record: JobRecord | None, error: BaseException | None) -> None:
        self._schedule.remove(ref)
        for waiting in self._waiting.pop(ref, []):
            waiting.record, waiting.error = record, error
            waiting.signal.set()

    # -- the leader ---------------------------------------------------------------------------------

    async def _lead(self, left_s: float | None) -> None:
        """Sleep until something is due, ask for it, hand out the answers."""
        self._nudge.clear()
        with self._lock:
            next_in_s = self._schedule.next_in(time.monotonic())
        if next_in_s is not None and next_in_s > 0:
            await self._nudge.wait(next_in_s if left_s is None else min(next_in_s, left_s))
        with self._lock:
            now = time.monotonic()
            if self._schedule.next_in(now) != 0:
                return  # woken early, or by the caller's own deadline
            due = self._schedule.take(now, limits.BATCH_MAX)
            doubtful = [ref for ref in due if self._schedule.is_old(ref)]
        try:
            await self._ask(due, doubtful)
            self._failing_since = None
        except StoreUnavailable as e:
            self._unavailable(e)
        except Exception as e:
            self.fail(e)

    async def _ask(self, due: list[JobRef], doubtful: list[JobRef]) -> None:
        store = await self._store()
        records = await store.history(due)
        with self._lock:
            for ref, record in zip(due, records, strict=True):
                if record is not None:
                    self._answer(ref, record, None)
        for tenant in {ref.tenant for ref in doubtful}:
            ids = [ref.id for ref in doubtful if ref.tenant == tenant]
            self._refuse_gone(tenant, ids, await store.get(tenant, ids))

    def _refuse_gone(self, tenant: str, ids: list[str], found: list[JobRecord | None]) -> None:
        gone = {job_id for job_id, record in zip(ids, found, strict=True) if record is None}
        with self._lock:
            for ref in [ref for ref in self._waiting if ref.tenant == tenant and ref.id in gone]:
                self._answer(ref, None, _gone(ref))

    def _unavailable(self, error: StoreUnavailable) -> None:
        """Bear with a store that is away for a while: the job runs on without us."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._settings.wait_unavailable_s:
            self.fail(error)


def _gone(ref: JobRef) -> ResultGone:
    return ResultGone(
        f"job {ref.id} does not exist: it was deleted, its retention has passed,"
        " or the transaction that stores it is not committed yet"
    )
