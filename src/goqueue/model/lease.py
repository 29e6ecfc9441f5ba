"""The worker's side of a job: leases, wants and beats."""

from __future__ import annotations

from datetime import datetime

import msgspec

from goqueue.model.job import JobRef
from goqueue.model.outcome import Answer, NewLog
from goqueue.model.retry import RetryDelays


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The right of one worker to run and decide one attempt of one job. Valid while the worker's row is alive."""

    id: str
    tenant: str
    queue: str
    kind: str
    args: bytes
    fence: int
    attempt: int
    max_attempts: int
    crashes: int
    priority: int
    timeout_s: float | None
    created_at: datetime
    run_at: datetime
    meta: bytes | None
    """JSON object of strings, or None: decoded only by a handler that asks."""
    tags: tuple[str, ...] = ()
    waited_s: float = 0.0
    """Pick-up: seconds from ``run_at`` to the claim, by the store's clock."""
    tried_for_s: float = 0.0
    """Seconds from the first claim since the job was enqueued (or retried by hand) to this one; 0 at the first."""
    start_in_s: float | None = None
    """Seconds that were left, at the claim, to start it; it must not be started after that. None: no such limit."""
    deadline_in_s: float | None = None
    """Seconds that were left, at the claim, until its total deadline; None: it has none."""
    retry: RetryDelays | None = None
    """When this job is tried again; None: as its task says."""
    max_crashes: int | None = None
    """With so many crashes it is dead. None: this is its first claim, and a first crash would not be its last."""

    @property
    def ref(self) -> JobRef:
        """How a store refers to the job."""
        return JobRef(self.tenant, self.queue, self.id)


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks of a claim: at most ``total`` jobs, from these queues in this order.

    Within a queue lower priority numbers come first, then earlier ``run_at``. ``kinds_unknown`` are never filtered
    out: a worker that gets a kind it does not know snoozes it.
    """

    worker_id: str
    queues: tuple[str, ...]
    total: int
    tenant: str = "default"
    request_id: str = ""
    """Names this claim, for a store behind HTTP that can answer a repeated one with the same leases. Others ignore it:
    what a cut-off answer gave comes back as strays (`Beaten.strays`)."""


class Claimed(msgspec.Struct, frozen=True):
    """Answers to the outcomes that went along, in their order, and new leases in the order to start them."""

    settled: tuple[Answer, ...]
    leases: tuple[Lease, ...]


class Signal(msgspec.Struct, frozen=True):
    """A wake-up: jobs may have become due in ``queue`` ("": nobody knows where), or, with ``cancels``, somebody has
    asked for the cancellation of a running job: a beat tells whose."""

    queue: str = ""
    cancels: bool = False


class Held(msgspec.Struct, frozen=True):
    """A lease as a worker reports it in a beat."""

    ref: JobRef
    fence: int
    progress: bytes | None = None
    """JSON, at most `limits.PROGRESS_BYTES_MAX` bytes; None leaves what is stored."""
    logs: tuple[NewLog, ...] = ()
    """Lines to add; those that were added under this fence before are not added again."""


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who a worker is. A worker is a process with a UUID of its own, never a host name."""

    id: str
    name: str = ""
    host: str = ""
    pid: int = 0
    version: str = ""
    queues: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    concurrency: int = 0


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life. The first one registers the worker; ``ttl_s=0`` takes its leave."""

    worker: WorkerInfo
    ttl_s: float
    held: tuple[Held, ...] = ()
    running: int = 0
    idle: bool = False
    """All its queues are empty for it: enqueuers inside foreign transactions should wake it."""
    draining: bool = False
    tenant: str = "default"


class Beaten(msgspec.Struct, frozen=True):
    """What the store knows better: leases that are lost, and running jobs that someone wants cancelled."""

    lost: tuple[JobRef, ...] = ()
    cancel: tuple[JobRef, ...] = ()
    unkept: tuple[JobRef, ...] = ()
    """Leases whose progress and logs could not be written now (somebody had the job locked): to be sent again."""
    strays: tuple[Held, ...] = ()
    """Running jobs of this worker that it did not name: perhaps claimed by a call whose answer was cut off. A worker
    that sees one twice, and does not know it, hands it back; otherwise it would stay running while the worker lives."""


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as operators see it."""

    id: str
    name: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    concurrency: int
    running: int
    idle: bool
    draining: bool
    started_at: datetime
    beat_at: datetime
    expires_at: datetime
    left_s: float = 0.0
    """Until then, by the store's clock. Not positive: it is dead, or has taken its leave."""
