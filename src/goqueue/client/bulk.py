"""Storing any number of jobs: the ids of a run that can be resumed, and the tally. Rules without I/O."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import msgspec

from goqueue.client import results
from goqueue.model.errors import Conflict, IdConflict, InvalidInput, NotSent, PartlyEnqueued, StoreUnavailable
from goqueue.tasks.prepare import check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.client._async.job import AsyncJob
    from goqueue.client._sync.job import Job
    from goqueue.client.batch import Batch
    from goqueue.model.job import NewJob

R = TypeVar("R")

CONFLICTS_KEPT_MAX: Final = 100
"""Conflicts of one `enqueue_many` that are told one by one where handles are not kept; the others are counted."""

_POSITION_BITS: Final = 32
_HASH_BITS: Final = 42
"""A UUIDv7 has 48 bits of time and 74 that are free: a position and a part of a hash fill them."""


class EnqueuedMany(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs of an `enqueue_many`, so far or in the end."""

    taken: int = 0
    """Jobs taken from the iterator and answered for: the sum of the next four."""
    stored: int = 0
    existing: int = 0
    """Jobs that were there already, under the id that the run, or the caller, gives them."""
    deduplicated: int = 0
    """Jobs whose unique key another job holds, which stands for them (or took their arguments)."""
    rejected: int = 0
    """Jobs that met a conflict: nothing was stored of them."""
    conflicts: dict[int, Conflict] = {}
    """The first of these, at most 100, by position."""
    took_s: float = 0.0
    """Seconds since the call began."""

    @property
    def rate(self) -> float:
        """Jobs answered for in a second, on average so far."""
        return self.taken / self.took_s if self.took_s else 0.0


class Run:
    """Gives each job of a run the id that it has whenever the run is repeated.

    ``run_id`` is a UUIDv7. The ids have its 48 bits of time, so that look-ups by time find them, then the position, so
    that they sort as the jobs came and go to one place of an index, then 42 bits of a SHA-256 of the run's id, so that
    two runs of the same millisecond share none.
    """

    def __init__(self, run_id: str) -> None:
        number = UUID(check_id(run_id, "/run_id")).int
        self._time = number >> 80 << 80
        digest = hashlib.sha256(b"goqueue run\0" + UUID(int=number).bytes).digest()
        self._hash = int.from_bytes(digest, "big") >> (256 - _HASH_BITS)

    def id(self, position: int) -> str:
        """Return the id of the job at a position."""
        if position >> _POSITION_BITS:
            raise InvalidInput(f"a run has at most {1 << _POSITION_BITS} jobs: begin another one", "/run_id")
        free = position << _HASH_BITS | self._hash
        high, low = free >> 62, free & ((1 << 62) - 1)
        return str(UUID(int=self._time | 7 << 76 | high << 64 | 2 << 62 | low))

    def named(self, job: NewJob[R], position: int) -> NewJob[R]:
        """Return the job with its id in this run."""
        if job.id:
            raise InvalidInput(f"the job at position {position} has an id of its own: give ids or a run_id", "/run_id")
        return msgspec.structs.replace(job, id=self.id(position))


class Tally:
    """Counts the answers to an `enqueue_many`; keeps the handles, or only the first conflicts."""

    def __init__(
        self, *, run_id: str | None, keep: bool, progress: Callable[[EnqueuedMany], None] | None, began_at: float
    ) -> None:
        self.run = None if run_id is None else Run(run_id)
        self.handles: list[AsyncJob[object] | Job[object] | Conflict] = []
        self._keep = keep
        self._progress = progress
        self._began_at = began_at
        self._taken = self._stored = self._existing = self._deduplicated = self._rejected = 0
        self._conflicts: dict[int, Conflict] = {}

    def answered(
        self, batch: Batch[object], handles: Sequence[AsyncJob[object] | Job[object] | Conflict], now: float
    ) -> None:
        """Note the answers to one statement, and tell how far it has come.

        Raises `IdConflict` if a job of a run differs from the one that is stored at its place.
        """
        if not handles:
            return
        other: Conflict | None = None
        for position, (job, handle) in enumerate(zip(batch.given, handles, strict=True), self._taken):
            if isinstance(handle, Conflict):
                self._rejected += 1
                if self.run is not None and isinstance(handle, IdConflict):
                    other = other or _not_the_same_run(position, handle)
                if self._keep or len(self._conflicts) < CONFLICTS_KEPT_MAX:
                    self._conflicts[position] = handle
            elif handle.deduplicated:
                self._deduplicated += 1
            elif handle.created_at is None and job.id:
                self._existing += 1
            else:
                self._stored += 1  # perhaps by an earlier try whose answer was lost: the id was ours alone
        self._taken += len(handles)
        if self._keep:
            self.handles += handles
        if other is not None:
            raise other
        if self._progress is not None:
            self._progress(self.counts(now))

    def counts(self, now: float) -> EnqueuedMany:
        """Return the tally so far."""
        return EnqueuedMany(
            taken=self._taken,
            stored=self._stored,
            existing=self._existing,
            deduplicated=self._deduplicated,
            rejected=self._rejected,
            conflicts=dict(self._conflicts),
            took_s=now - self._began_at,
        )

    def refuse_conflicts(self) -> None:
        """Raise `PartlyEnqueued` if there were conflicts, for a caller that expects a handle for each job."""
        if self._conflicts:
            ids = [None if isinstance(handle, Conflict) else handle.id for handle in self.handles]
            raise PartlyEnqueued(results.first_conflict(self._conflicts), ids, self._conflicts)

    def note(self, error: Exception) -> None:
        """Say, with an error that ends it early, how far it has come and how to go on."""
        said = f"The first {self._taken} jobs of this enqueue_many are stored." if self._taken else ""
        if self.run is not None and not isinstance(error, IdConflict):
            said += " The same jobs with the same run_id store what is missing, and nothing twice."
        elif isinstance(error, StoreUnavailable) and not isinstance(error, NotSent):
            said += " Of the next 1,000 it is not known; with a run_id the same call could be made again."
        if said:
            error.add_note(said.strip())


def _not_the_same_run(position: int, conflict: IdConflict) -> IdConflict:
    return IdConflict(
        f"this run has stored another job at position {position} before: it needs the same jobs in the same order each"
        f" time, so give other jobs a run_id of their own ({conflict})"
    )
