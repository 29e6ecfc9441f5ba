"""The laws of the engine, held at the line between workers and store: an independent account of every job.

It knows nothing of how either side works. It is told of each call that crosses the line and of what each handler does,
and says at once when an answer or an outcome is not what follows from what was seen before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from goqueue.model.job import JobRecord, NewJob
from goqueue.model.lease import Lease
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Outcome, Release, Retry, Settlement, Snooze
from goqueue.model.state import FINAL_STATES, JobState

WAITING, RUNNING = "waiting", "running"
COMPLETED, CANCELLED, DEAD = JobState.COMPLETED.value, JobState.CANCELLED.value, JobState.DEAD.value
THREADED = "act_in_thread"
FINAL = frozenset(state.value for state in FINAL_STATES)


@dataclass
class Life:
    """What has happened to one job."""

    job: NewJob[object]
    state: str = WAITING
    claims: int = 0
    handed_back: int = 0
    swept: int = 0
    expired: int = 0
    crashes_told: int = 0
    max_attempts: int = 0
    max_crashes: int = 0
    holder: int | None = None
    """The fence of the lease that is valid."""
    decided: int | None = None
    """The fence of the lease that its own worker has decided, while no other has been given."""
    cancel_asked: bool = False
    reason: str | None = None
    end: JobRecord | None = None
    """As it was when it was first seen to be final."""

    @property
    def fence(self) -> int:
        return self.claims + self.swept + self.expired

    @property
    def attempt(self) -> int:
        return self.claims - self.handed_back

    @property
    def crashes(self) -> int:
        return self.swept + self.crashes_told


@dataclass
class Start:
    """What a handler did under one lease."""

    lease: Lease
    ended: str = ""
    """``returned``, ``raised``, ``snoozed``, ``cancelled``, ``dead`` or ``interrupted``; "" while it runs."""


@dataclass
class Laws:
    """Everything that was seen."""

    lives: dict[str, Life] = field(default_factory=dict)
    starts: dict[tuple[str, int], Start] = field(default_factory=dict)
    leases: dict[tuple[str, int], Lease] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    """How often what has happened: so that a test can tell that it does happen."""
    broken: list[str] = field(default_factory=list)
    """What was found in places where an exception would be taken for the handler's or the store's."""

    # -- users and operators ----------------------------------------------------------------------------

    def enqueued(self, job: NewJob[object]) -> None:
        """It was acknowledged: it has to be there for ever."""
        self.lives[job.id] = Life(job, max_attempts=job.max_attempts, max_crashes=job.max_crashes)

    def replaced(self, job_id: str, job: NewJob[object]) -> None:
        """It waits, and takes all that the new one wants."""
        life = self.lives[job_id]
        self._hold(life.state == WAITING, job_id, "was replaced while it did not wait")
        life.job = job
        life.max_attempts = max(job.max_attempts, life.attempt + 1)
        life.max_crashes = max(job.max_crashes, life.crashes + 1)

    def cancel_asked(self, job_id: str) -> None:
        """Somebody wants it cancelled, and was told that it will be."""
        life = self.lives[job_id]
        life.cancel_asked = True
        if life.state == WAITING:
            life.state, life.reason = CANCELLED, None
        self.seen["cancel asked " + life.state] += 1

    def retried(self, job_id: str) -> None:
        """Somebody wants it again."""
        life = self.lives[job_id]
        self._hold(life.state != RUNNING, job_id, "was retried while it ran")
        self.seen["retried " + life.state] += 1
        life.state, life.end, life.cancel_asked = WAITING, None, False
        life.max_attempts = max(life.max_attempts, life.attempt + 1)
        life.max_crashes = max(life.max_crashes, life.crashes + 1)

    # -- the line -----------------------------------------------------------------------------------------

    def claimed(self, leases: Sequence[Lease]) -> None:
        """A worker was given these."""
        for lease in leases:
            life = self.lives[lease.id]
            self._hold(life.holder is None, lease.id, f"has two valid leases: {life.holder} and {lease.fence}")
            self._hold(life.state == WAITING, lease.id, f"was claimed while it was {life.state}")
            self._hold(lease.queue not in self.paused, lease.id, "was claimed from a paused queue")
            life.claims += 1
            life.state, life.holder, life.decided = RUNNING, lease.fence, None
            self._hold(lease.fence == life.fence, lease.id, f"fence {lease.fence}, by law {life.fence}")
            self._hold(lease.attempt == life.attempt, lease.id, f"attempt {lease.attempt}, by law {life.attempt}")
            self._hold(lease.crashes == life.crashes, lease.id, f"crashes {lease.crashes}, by law {life.crashes}")
            self._hold(lease.attempt <= life.max_attempts, lease.id, "has more attempts than it may")
            self._hold(lease.crashes < life.max_crashes, lease.id, "has crashed as often as it may, and is run again")
            self.leases[lease.id, lease.fence] = lease
        self.seen["claims"] += len(leases)

    def answered(self, settlements: Sequence[Settlement], answers: Sequence[Answer]) -> None:
        """A worker or its supervisor wanted these decided."""
        for settlement, answer in zip(settlements, answers, strict=True):
            life = self.lives[settlement.ref.id]
            held, same = life.holder == settlement.fence, life.decided == settlement.fence
            expected = Answer.APPLIED if held else Answer.ALREADY if same else Answer.LOST
            self._hold(answer is expected, life.job.id, f"was answered {answer}, by law {expected}: {settlement}")
            self.seen[f"{type(settlement.outcome).__name__.lower()} {answer.value}"] += 1
            if answer is Answer.APPLIED:
                self._follows(settlement)
                life.holder, life.decided = None, settlement.fence
                self._apply(life, settlement.outcome)

    def _apply(self, life: Life, outcome: Outcome) -> None:
        match outcome:
            case Complete():
                life.state = COMPLETED
            case Cancel():
                life.state = CANCELLED
            case Dead():
                life.state, life.reason = DEAD, outcome.reason
            case Retry():
                self._wait(life)
            case Snooze() | Release():
                life.handed_back += 1
                self._wait(life)
            case Crash():
                life.crashes_told += 1
                self._crash(life)
            case _:
                assert_never(outcome)

    def _wait(self, life: Life) -> None:
        life.state = CANCELLED if life.cancel_asked else WAITING

    def _crash(self, life: Life) -> None:
        used_up = life.crashes >= life.max_crashes or life.attempt >= life.max_attempts
        if used_up and not life.cancel_asked:
            life.state, life.reason = DEAD, "crashed"
        else:
            self._wait(life)

    def swept(self, job_id: str, *, expired: bool) -> None:
        """Upkeep has raised its fence."""
        life = self.lives[job_id]
        self.seen["expired" if expired else "swept"] += 1
        if expired:
            self._hold(life.state == WAITING, job_id, f"expired while it was {life.state}")
            life.expired += 1
            life.state = DEAD
        else:
            self._hold(life.state == RUNNING, job_id, f"was taken from its worker while it was {life.state}")
            life.swept += 1
            self._crash(life)
        life.holder = life.decided = None

    # -- handlers -----------------------------------------------------------------------------------------

    def started(self, lease: Lease) -> Start:
        """A handler begins."""
        key = (lease.id, lease.fence)
        self._hold(key in self.leases, lease.id, "was started without a lease")
        self._hold(key not in self.starts, lease.id, f"was started twice under fence {lease.fence}")
        self._hold(lease.start_in_s is None or lease.start_in_s > 0, lease.id, "was started too late")
        self._hold(lease.deadline_in_s is None or lease.deadline_in_s > 0, lease.id, "was started after its deadline")
        start = self.starts[key] = Start(lease)
        return start

    def _follows(self, settlement: Settlement) -> None:
        """Does this outcome follow from what the handler did under this very lease?"""
        key = (settlement.ref.id, settlement.fence)
        start, lease, life = self.starts.get(key), self.leases[key], self.lives[settlement.ref.id]
        ended = None if start is None else start.ended
        # A thread begins a little after it was told to, and may end unheard when nobody waits for it any more.
        threaded = lease.kind == THREADED
        match settlement.outcome:
            case Complete(result=result):
                right = ended == "returned" and result == b'{"fence":%d}' % settlement.fence
            case Retry():
                right = ended == "raised" and lease.attempt < lease.max_attempts
            case Snooze():
                right = ended == "snoozed"
            case Cancel():
                # It may be told to stop before its first line, or go on all the same.
                right = ended == "cancelled" or (life.cancel_asked and ended in (None, "interrupted", ""))
            case Dead(reason=reason):
                right = {
                    "attempts": ended == "raised" and lease.attempt >= lease.max_attempts,
                    "given up": ended == "dead",
                    "expired": ended is None and _over(lease.start_in_s),
                    # Not begun, or its next attempt would be too late.
                    "deadline": _over(lease.deadline_in_s)
                    if ended is None
                    else ended == "raised" and lease.deadline_in_s is not None,
                }.get(reason, False)
            case Crash():
                right = ended is not None or threaded
            case Release():
                right = ended in (None, "interrupted", "") or threaded
            case _:
                assert_never(settlement.outcome)
        self._hold(
            right, settlement.ref.id, f"{settlement.outcome} does not follow from what was seen: {ended!r}, {lease}"
        )

    # -- the whole ------------------------------------------------------------------------------------------

    def look(self, records: Sequence[JobRecord | None]) -> None:
        """Hold what the store says of every acknowledged job against what was seen."""
        assert not self.broken, "\n".join(self.broken)
        live_keys: Counter[tuple[str, bytes]] = Counter()
        for (job_id, life), record in zip(list(self.lives.items()), records, strict=True):
            self._hold(record is not None, job_id, "is lost")
            assert record is not None
            final = record.state in FINAL_STATES
            shown = record.state.value if final or record.state is JobState.RUNNING else WAITING
            self._hold(shown == life.state, job_id, f"is {shown}, by law {life.state}")
            self._hold(record.attempt == life.attempt, job_id, f"attempt {record.attempt}, by law {life.attempt}")
            self._hold(record.crashes == life.crashes, job_id, f"crashes {record.crashes}, by law {life.crashes}")
            if final:
                self._hold(
                    life.end is None or record == life.end, job_id, f"changed after its end: {life.end} {record}"
                )
                life.end = record
                if life.state == DEAD and life.reason is not None and not life.expired:
                    self._hold(record.reason == life.reason, job_id, f"{record.reason}, by law {life.reason}")
            elif (unique := life.job.unique) is not None and not (unique.until_started and life.claims):
                live_keys[record.queue, unique.digest] += 1
        assert not [key for key, count in live_keys.items() if count > 1], "two jobs hold one key"
        assert not self.broken, "\n".join(self.broken)

    def unfinished(self) -> list[Life]:
        """Return what is not final."""
        return [life for life in self.lives.values() if life.state not in FINAL]

    def _hold(self, right: bool, job_id: str, what: str) -> None:
        if not right:
            self.broken.append(f"job {job_id} {what}")
            raise AssertionError(f"job {job_id} {what}")


def _over(left_s: float | None) -> bool:
    return left_s is not None and left_s <= 0
