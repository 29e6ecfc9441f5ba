# Generated from src/goqueue/client/_async/waiter.py by scripts/unasync.py: change that and run `make generate`.
"""One waiter per client: however many jobs are awaited, one of those who wait asks for all of them.

Nobody works in the background: the first to wait leads, which means that it polls for everybody and hands out what it
finds; when it has its own answer, or gives up, another one of those who still wait takes over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from goqueue.client._sync.primitives import Signal
from goqueue.client.waiting import PollSchedule
from goqueue.model import limits
from goqueue.model.errors import ResultGone, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from goqueue.model.job import JobRecord, JobRef
    from goqueue.settings import ClientSettings
    from goqueue.store.jobs_sync import JobStore


Ended: TypeAlias = "JobRecord | ResultGone"
"""How a job has ended: with a final record, or by not being there."""


class OpenStore(Protocol):
    """Gives the store, opened."""

    def __call__(self) -> JobStore:
        """Open it if it is not."""
        ...


FIRST_LOOKS: Final = 3
"""However short a wait is, it lasts for so many times ``wait_min_s``: then the store has been asked once."""


class Party:
    """One who waits, for one job or for many. ``signal`` says: look at your fields."""

    def __init__(self, refs: Iterable[JobRef]) -> None:
        self.pending = dict.fromkeys(refs)
        """Those that it still waits for, in order."""
        self.answers: deque[tuple[JobRef, Ended]] = deque()
        """What has come and was not taken yet."""
        self.error: BaseException | None = None
        """Why it waits in vain."""
        self.signal = Signal()
        self.leads = False
        self.of: Waiter | None = None


class Waiter:
    """Waits for final records of jobs."""

    def __init__(self, store: OpenStore, settings: ClientSettings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()  # held for moments only, never across an await
        self._waiting: dict[JobRef, list[Party]] = {}
        self._present: dict[Party, None] = {}
        """Those who are in a call now, and so can lead; who looks at an answer meanwhile cannot."""
        self._schedule = PollSchedule(settings)
        self._led = False
        self._nudge = Signal()
        self._failing_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def wait(self, ref: JobRef, timeout_s: float | None) -> JobRecord | None:
        """Return the job's record when it is final; None if that took longer than ``timeout_s``.

        Raises `ResultGone` for a job that does not exist, and what the store raises.
        """
        party = self.join((ref,))
        try:
            ended = self.next(party, None if timeout_s is None else time.monotonic() + timeout_s)
        finally:
            self.leave(party)
        if ended is None:
            return None
        if isinstance(ended[1], ResultGone):
            raise ended[1]
        return ended[1]

    def join(self, refs: Iterable[JobRef]) -> Party:
        """Begin to wait for these jobs: `next` gives one after the other. `leave` has to be called in the end."""
        party = Party(refs)
        self._await(party)
        return party

    def _await(self, party: Party) -> None:
        with self._lock:
            party.of = self
            now = time.monotonic()
            for ref in party.pending:
                self._waiting.setdefault(ref, []).append(party)
                self._schedule.add(ref, now)
        self._nudge.set()  # the leader may sleep for longer than this one should

    def next(self, party: Party, deadline: float | None) -> tuple[JobRef, Ended] | None:
        """Return the next of its jobs that is final, and how it ended; None if there is none by ``deadline``.

        Raises what the store raises, and `ClientClosed`.
        """
        if party.of is not self:  # joined before a fork, or on a loop that is closed: nobody asks for it there
            party.leads = False
            self._await(party)
        if not party.answers and party.error is None:
            self._enter(party)
            try:
                self._await_answer(party, deadline)
            finally:
                self._exit(party)
        if party.answers:
            return party.answers.popleft()
        if party.error is not None:
            raise party.error
        return None

    def leave(self, party: Party) -> None:
        """Wait no longer."""
        with self._lock:
            for ref in party.pending:
                others = self._waiting.get(ref, [])
                if party in others:
                    others.remove(party)
                    if not others:
                        del self._waiting[ref]
                        self._schedule.remove(ref)
            party.pending.clear()

    def fail(self, error: BaseException) -> None:
        """Give everybody who waits this error."""
        with self._lock:
            for party in {party for waiting in self._waiting.values() for party in waiting}:
                party.error = error
                party.pending.clear()
                party.signal.set()
            for ref in self._waiting:
                self._schedule.remove(ref)
            self._waiting.clear()
        self._nudge.set()

    # -- who waits ----------------------------------------------------------------------------------

    def _await_answer(self, party: Party, deadline: float | None) -> None:
        if deadline is not None:  # who will not wait gets one look
            deadline = max(deadline, time.monotonic() + FIRST_LOOKS * self._settings.wait_min_s)
        while True:
            party.signal.clear()
            if party.answers or party.error is not None:
                return
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            if party.leads:
                self._lead(left_s)
            else:
                party.signal.wait(left_s)

    def _enter(self, party: Party) -> None:
        with self._lock:
            self._present[party] = None
            if not self._led:
                self._led = party.leads = True

    def _exit(self, party: Party) -> None:
        with self._lock:
            del self._present[party]
            if party.leads:
                party.leads = False
                self._hand_over()

    def _hand_over(self) -> None:
        for party in self._present:
            party.leads = True
            party.signal.set()
            return
        self._led = False
        self._failing_since = None

    def _answer(self, ref: JobRef, ended: Ended) -> None:
        self._schedule.remove(ref)
        for party in self._waiting.pop(ref, []):
            party.answers.append((ref, ended))
            party.pending.pop(ref, None)
            party.signal.set()

    # -- the leader ---------------------------------------------------------------------------------

    def _lead(self, left_s: float | None) -> None:
        """Sleep until something is due, ask for it, hand out the answers."""
        self._nudge.clear()
        with self._lock:
            next_in_s = self._schedule.next_in(time.monotonic())
        if next_in_s is not None and next_in_s > 0:
            self._nudge.wait(next_in_s if left_s is None else min(next_in_s, left_s))
        with self._lock:
            now = time.monotonic()
            if self._schedule.next_in(now) != 0:
                return  # woken early, or by the caller's own deadline
            due = self._schedule.take(now, limits.BATCH_MAX)
            doubtful = [ref for ref in due if self._schedule.is_old(ref)]
        try:
            self._ask(due, doubtful)
            self._failing_since = None
        except StoreUnavailable as e:
            self._unavailable(e)
        except Exception as e:
            self.fail(e)

    def _ask(self, due: list[JobRef], doubtful: list[JobRef]) -> None:
        store = self._store()
        records = store.history(due)
        with self._lock:
            for ref, record in zip(due, records, strict=True):
                if record is not None:
                    self._answer(ref, record)
        for tenant in {ref.tenant for ref in doubtful}:
            ids = [ref.id for ref in doubtful if ref.tenant == tenant]
            self._refuse_gone(tenant, ids, store.get(tenant, ids))

    def _refuse_gone(self, tenant: str, ids: list[str], found: list[JobRecord | None]) -> None:
        gone = {job_id for job_id, record in zip(ids, found, strict=True) if record is None}
        if not gone:
            return
        with self._lock:
            for ref in [ref for ref in self._waiting if ref.tenant == tenant and ref.id in gone]:
                self._answer(ref, _gone(ref))

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
