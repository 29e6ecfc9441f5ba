"""The port: what the engine, the service and the clients need of a store, and nothing of how one does it.

Three protocols, lists in and lists out, one round trip each, results in input order. A store never computes policy
(backoff, cron, hashing, encoding, rights) and never sees user code; atomicity, ordering, locking, counting and the
clock are below this line. Behaviour is fixed by `goqueue.store.conformance`; why it looks like this: docs/why/port.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from goqueue.store.jobs_async import AsyncJobStore as JobStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from goqueue.model.admin import Capabilities, Duty, Finding, Record, SchemaStatus, Swept, Term
    from goqueue.model.job import JobRef, NewJob
    from goqueue.model.lease import Beat, Beaten, Claimed, Signal, Want, WorkerRecord
    from goqueue.model.outcome import Answer, Settlement
    from goqueue.model.query import Enqueued

__all__ = ["AdminStore", "JobStore", "Store", "WorkStore"]


class WorkStore(Protocol):
    """All that a worker needs. Implemented by the stores and by the HTTP client, so that one worker runs on either."""

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        """Settle ``outcomes`` and claim up to ``want.total`` due jobs, in one trip and one commit.

        A claim raises fence and attempt of each job by one. It gives nothing to a worker whose own row is missing or
        expired (its first `extend` registers it), and nothing from a paused queue.
        """
        ...

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Decide attempts. Each is written only if its job is still running under this fence.

        One locked or bad row never holds up the others: it answers ``busy``. Final outcomes move the job to history
        and free its unique key; the others set ``run_at`` to the store's now plus the delay. Why a job was put off
        (`Snooze.reason`) is its record's ``reason`` until it is claimed again.
        """
        ...

    async def extend(self, beat: Beat) -> Beaten:
        """Keep the worker, and with it all its leases, alive for ``beat.ttl_s`` seconds from now; register it if new.

        Answers which of ``beat.held`` are lost and which running jobs somebody wants cancelled. ``ttl_s=0`` takes the
        worker's leave: what it still holds is an orphan at once; its row goes with upkeep a minute later.
        """
        ...

    async def enqueue_by(self, jobs: Sequence[NewJob[object]], by: JobRef, fence: int) -> list[Enqueued]:
        """Enqueue from inside a handler, only while its lease (job ``by`` under ``fence``) is valid.

        Raises `LeaseLost`, and stores nothing, when it is not. Otherwise as ``JobStore.enqueue``.
        """
        ...

    def signals(self, tenant: str, queues: Sequence[str]) -> AsyncIterator[Signal]:
        """Yield when jobs may have become due in one of these queues, or when a running job of the tenant shall stop.

        Wake-ups may be lost or late or spurious: polling is always enough. The iterator survives lost connections
        (and yields `Signal("")` after one), ends when the store is closed, and is closed by ``aclose``.
        """
        ...


class AdminStore(Protocol):
    """Upkeep and administration."""

    @property
    def capabilities(self) -> Capabilities:
        """What this store can promise; known after `open`."""
        ...

    async def sweep(self, duty: Duty, limit: int, term: Term | None = None) -> Swept:
        """Do a bounded piece of upkeep. Row by row: locked or bad rows are left for the next time.

        ``Duty.ORPHANS``: jobs of expired workers go back to waiting (fence + 1, crashes + 1, run_at = now plus the
        store's ``crash_delay_s``, doubled with each crash), or are dead with reason ``crashed`` at ``max_crashes`` or
        ``max_attempts``, or are cancelled if that was requested.
        ``Duty.EXPIRED``: waiting jobs that were not started in time are dead with reason ``expired``, those past their
        total deadline with ``deadline`` (fence + 1).

        With ``term`` nothing is done, and the answer is ``deposed``, unless that is still the present term of its
        election: checked in the statements that write, so that a leader which was away cannot go on where it stopped.
        """
        ...

    async def elect(self, name: str, holder: str, ttl_s: float) -> Term | None:
        """Become or stay leader of ``name`` for ``ttl_s``; None while somebody else is. ``ttl_s=0`` resigns."""
        ...

    async def read(self, name: str) -> Record | None:
        """Read a record."""
        ...

    async def write(self, name: str, value: bytes, version: int, ttl_s: float | None = None) -> Record | None:
        """Write a record if its version is still ``version`` (0: it must not exist); None when it is not.

        With ``ttl_s`` the record is treated as absent that many seconds later.
        """
        ...

    async def workers(self, tenant: str) -> list[WorkerRecord]:
        """List the workers whose rows exist, newest first, at most 1,000."""
        ...

    async def pause(self, tenant: str, queue: str, paused: bool) -> None:
        """Stop or resume claims from a queue: exact once answered. What runs already goes on."""
        ...

    async def paused(self, tenant: str) -> list[str]:
        """Name the paused queues."""
        ...

    async def migrate(self) -> SchemaStatus:
        """Bring the schema to this version's target. Safe to run from many processes at once."""
        ...

    async def schema(self) -> SchemaStatus:
        """Tell which schema the store has."""
        ...

    async def diagnose(self) -> list[Finding]:
        """Look for what will hurt, or hurts already, and say what to do. Reads only; each look has a deadline.

        Every store has findings ``unserved_queues`` (due jobs that no live worker takes), ``pauses`` (bad when jobs
        wait there) and ``unknown_kinds`` (jobs that were put off because a worker has no task of their kind).
        """
        ...

    async def ping(self) -> None:
        """Answer a trivial question within the deadline, else raise `StoreUnavailable`."""
        ...


class Store(WorkStore, JobStore, AdminStore, Protocol):
    """A whole store: what the wiring hands out."""
