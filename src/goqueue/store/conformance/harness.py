"""What a case needs of the store under test, and the few moves that all cases are made of."""

from __future__ import annotations

import hashlib
import sys
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import msgspec

from goqueue.model.admin import Duty
from goqueue.model.job import DEFAULT_QUEUE, DEFAULT_TENANT, ErrorInfo, JobRef, NewJob, OnConflict, Unique
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Complete, Dead, Settlement
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, EnqueueStatus, Selection
from goqueue.model.state import JobState
from goqueue.settings import Retention, StoreSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import JobRecord
    from goqueue.model.lease import Beaten, Held, Lease
    from goqueue.model.outcome import Answer, Outcome
    from goqueue.model.query import Change, Enqueued
    from goqueue.store.port import Store

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils.compat import uuid7

TTL_S: Final = 60.0
"""Lease time of the workers of these cases."""
CRASH_DELAY_S: Final = 100.0
"""Of the store under test: long enough to be told from the moment that a call takes."""
NO_TRACE: Final = "no-trace"
"""A queue of the store under test that keeps no final jobs at all."""
SHORT: Final = "short"
"""A queue of the store under test that keeps every final job for `SHORT_S`."""
SHORT_S: Final = 2 * 86_400.0
SETTINGS: Final = StoreSettings(
    crash_delay_s=CRASH_DELAY_S,
    queue_retention={
        NO_TRACE: Retention(completed_s=0.0, cancelled_s=0.0, dead_s=0.0),
        SHORT: Retention(completed_s=SHORT_S, cancelled_s=SHORT_S, dead_s=SHORT_S),
    },
)
"""What the store under test has to be opened with; a fixture may change what these cases do not look at."""
NEAR_S: Final = 5.0
"""Two instants that are so near count as the same: a store may run on a real clock between two moves of it."""
BOOM: Final = ErrorInfo("ValueError", "boom", "Traceback: boom")


def new_id() -> str:
    """Return a new job id. Later ones are greater."""
    return str(uuid7())


def worker_id() -> str:
    """Return the id of a worker that no store has heard of."""
    return str(uuid.uuid4())


def new_job(**fields: Any) -> NewJob[object]:  # Any: whatever fields NewJob has
    """Return a job as `goqueue.tasks.prepare` would make it ready for a store."""
    return NewJob(**{"id": new_id(), "kind": "case"} | fields)


def unique(
    key: str = "k",
    *,
    on_conflict: OnConflict = OnConflict.RETURN,
    final_states: Sequence[JobState] = (),
    window_s: float | None = None,
    until_started: bool = False,
    keep_run_at: bool = False,
) -> Unique:
    """Return a unique key with its digest."""
    return Unique(
        until_started=until_started,
        keep_run_at=keep_run_at,
        key=key,
        on_conflict=on_conflict,
        final_states=tuple(final_states),
        window_s=window_s,
        digest=hashlib.sha256(key.encode()).digest(),
    )


def near(a: datetime | None, b: datetime | None, seconds: float = 0.0) -> bool:
    """Is ``a`` about ``seconds`` after ``b``?"""
    return a is not None and b is not None and abs((a - b).total_seconds() - seconds) < NEAR_S


def near_s(a: float | None, b: float) -> bool:
    """Is a duration about ``b`` seconds?"""
    return a is not None and abs(a - b) < NEAR_S


def json_of(raw: msgspec.Raw | bytes | None) -> object:
    """Decode what a store gave back: it may have changed white space, never values."""
    return None if raw is None else msgspec.json.decode(bytes(raw))


class Harness(ABC):
    """A fresh store, and power over its clock and over one thing that no client can do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on the store's clock, at once."""

    @abstractmethod
    async def forget_worker(self, worker_id: str) -> None:
        """Remove a worker's row although it may hold jobs, as a careless administrator would."""

    # -- moves ----------------------------------------------------------------------------------------

    async def enqueue(self, **fields: Any) -> JobRef:  # Any: whatever fields NewJob has
        """Enqueue one new job and return its reference."""
        job = new_job(**fields)
        assert (await self.try_enqueue(job)).status is EnqueueStatus.INSERTED
        return job.ref

    async def try_enqueue(self, job: NewJob[object], *, retry: bool = False) -> Enqueued:
        """Enqueue one job and return the answer."""
        (answer,) = await self.store.enqueue([job], retry=retry)
        return answer

    async def worker(self, worker: str = "", *, ttl_s: float = TTL_S, tenant: str = DEFAULT_TENANT) -> str:
        """Let a worker give a sign of life; return its id."""
        worker = worker or worker_id()
        await self.beat(worker, ttl_s=ttl_s, tenant=tenant)
        return worker

    async def beat(
        self, worker: str, *, held: Sequence[Held] = (), ttl_s: float = TTL_S, tenant: str = DEFAULT_TENANT
    ) -> Beaten:
        """Let a worker beat."""
        info = WorkerInfo(id=worker, name="case", host="here", pid=1, version="0", queues=(DEFAULT_QUEUE,))
        return await self.store.extend(Beat(worker=info, ttl_s=ttl_s, held=tuple(held), tenant=tenant))

    async def claim(
        self,
        worker: str = "",
        *,
        total: int = 10,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        tenant: str = DEFAULT_TENANT,
    ) -> list[Lease]:
        """Claim, for a new worker unless one is named."""
        worker = worker or await self.worker(tenant=tenant)
        want = Want(worker_id=worker, queues=tuple(queues), total=total, tenant=tenant)
        claimed = await self.store.claim(want)
        assert claimed.settled == ()
        return list(claimed.leases)

    async def run(self, worker: str = "", **fields: Any) -> Lease:  # Any: whatever fields NewJob has
        """Enqueue a job and claim it."""
        ref = await self.enqueue(**fields)
        (lease,) = await self.claim(worker, queues=(ref.queue,), tenant=ref.tenant)
        assert lease.ref == ref
        return lease

    async def settle(self, lease: Lease, outcome: Outcome) -> Answer:
        """Settle one lease."""
        (answer,) = await self.store.settle([Settlement(lease.ref, lease.fence, outcome)])
        return answer

    async def finish(self, state: JobState, **fields: Any) -> JobRef:  # Any: whatever fields NewJob has
        """Enqueue a job and bring it to a final state."""
        if state is JobState.CANCELLED:
            ref = await self.enqueue(**fields)
            await self.change(ref, CancelJobs())
            return ref
        lease = await self.run(**fields)
        await self.settle(lease, Complete() if state is JobState.COMPLETED else Dead(BOOM))
        return lease.ref

    async def lose(self, lease: Lease) -> None:
        """Let the lease's worker be gone, and a sweep find it."""
        await self.advance(2 * TTL_S)
        assert await self.sweep_all(Duty.ORPHANS) >= 1
        assert await self.state(lease.ref) is not JobState.RUNNING

    async def sweep_all(self, duty: Duty) -> int:
        """Sweep until nothing is left; return how many rows were swept."""
        count = 0
        for _ in range(100):
            swept = await self.store.sweep(duty, 100)
            count += swept.count
            if not swept.more:
                return count
        raise AssertionError(f"{duty} never ends")

    async def change(self, ref: JobRef, change: Change) -> ChangeStatus:
        """Change one job."""
        (changed,) = await self.store.change(Selection(ref.tenant, (ref.id,)), change)
        assert changed.id == ref.id
        return changed.status

    async def held_by(self, key: Unique | None = None, *, queue: str = DEFAULT_QUEUE) -> JobRef | None:
        """Return who holds the key, by trying to take it; a job that took it is deleted again."""
        job = new_job(unique=key or unique(), queue=queue)
        answer = await self.try_enqueue(job)
        if answer.status is EnqueueStatus.INSERTED:
            assert await self.change(job.ref, DeleteJobs()) is ChangeStatus.CHANGED
            return None
        return answer.ref

    async def find(self, ref: JobRef) -> JobRecord | None:
        """Look a job up by its id."""
        (record,) = await self.store.get(ref.tenant, [ref.id])
        return record

    async def record(self, ref: JobRef) -> JobRecord:
        """Return a job that must exist."""
        record = await self.find(ref)
        assert record is not None, f"no job {ref}"
        return record

    async def state(self, ref: JobRef) -> JobState:
        """Return the state of a job that must exist."""
        return (await self.record(ref)).state
