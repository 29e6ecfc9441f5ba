"""A random user, worker fleet and operator, who tell two stores the same things and compare every answer.

Every delay and lease is a multiple of 1,000 s, and every step of the clock a multiple of that plus 10 s; so no
deadline is ever so near that the moment between two calls decides what an answer is.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections import Counter
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from goqueue.model.admin import Duty, Term
from goqueue.model.errors import LeaseLost
from goqueue.model.job import JobRecord, JobRef, NewJob
from goqueue.model.lease import Beat, Claimed, Held, Lease, Want, WorkerInfo
from goqueue.model.outcome import Answer, Crash, Outcome, Release, Settlement, Snooze
from goqueue.model.query import Change, Count, Enqueued, EnqueueStatus, Filter, Query, Selection
from goqueue.model.state import FINAL_STATES, FINAL_STORED, JobState, StoredState
from goqueue.store.conformance.harness import new_id
from goqueue.store.port import Store
from tests.property.pair import Pair
from tests.property.values import QUEUES, batches, changes, indexes, jobs, outcomes, recent, retries


class StoreMachine(RuleBasedStateMachine):
    """The rules. A subclass says which stores they are for."""

    @staticmethod
    @abstractmethod
    def make_pair() -> Pair:
        """Return a new model, and the store that is to be like it."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = self.make_pair()
        # A tenant of its own stands for a fresh store.
        self.tenant = f"t-{uuid.uuid4()}"
        self.workers = [str(uuid.uuid4()) for _ in range(3)]
        self.sent: list[NewJob[object]] = []
        self.leases: list[tuple[str, Lease]] = []
        self.claims: Counter[str] = Counter()
        self.handed_back: Counter[str] = Counter()
        self.crashes_told: Counter[str] = Counter()
        self.expired: Counter[str] = Counter()
        self.terms: list[Term] = []

    # -- users ----------------------------------------------------------------------------------------

    @rule(batch=batches, retry=st.booleans())
    def enqueue(self, batch: list[tuple[NewJob[object], bool]], retry: bool) -> None:
        """Enqueue a batch, in which an id may come twice."""
        ready: list[NewJob[object]] = []
        for job, same_id in batch:
            changed: dict[str, Any] = {"id": new_id(), "tenant": self.tenant}  # Any: fields of NewJob
            if same_id and ready and ready[-1].unique is None:
                changed |= {"id": ready[-1].id, "queue": ready[-1].queue}
            ready.append(msgspec.structs.replace(job, **changed))
        self._inserted(self.pair.both(lambda store: store.enqueue(ready, retry=retry)))
        self.sent += ready

    @precondition(lambda self: self.sent)
    @rule(at=indexes, count=st.integers(1, 4))
    def send_again(self, at: int, count: int) -> None:
        """Repeat what may have been committed."""
        start = at % len(self.sent)
        batch = self.sent[start : start + count]
        answers = self.pair.both(lambda store: store.enqueue(batch, retry=True))
        self._inserted(answers)
        live = {record.id for record in self._records() if record is not None}
        for job, answer in zip(batch, answers, strict=True):
            if answer.status is EnqueueStatus.EXISTS:
                assert answer.ref.id in live or self.pair.holds_its_key(job), "of what exists there is a trace"

    # -- workers --------------------------------------------------------------------------------------

    @rule(
        at=indexes,
        ttl_s=st.sampled_from([0.0, 1000.0, 3000.0, 3000.0]),
        progress=st.sampled_from([None, b'{"p":1}']),
        forgotten=st.sampled_from([0, 0, 1]),
    )
    def beat(self, at: int, ttl_s: float, progress: bytes | None, forgotten: int = 0) -> None:
        """Let a worker tell of everything that it ever held, but perhaps the latest, which it then does not know of."""
        worker = self.workers[at % len(self.workers)]
        held = tuple(Held(lease.ref, lease.fence, progress) for owner, lease in self.leases if owner == worker)
        held = held[: max(0, len(held) - forgotten)]
        beat = Beat(worker=WorkerInfo(id=worker, name="w"), ttl_s=ttl_s, held=held, tenant=self.tenant)

        async def extend(store: Store) -> tuple[list[JobRef], list[JobRef], list[tuple[JobRef, int]]]:
            beaten = await store.extend(beat)
            strays = sorted((stray.ref, stray.fence) for stray in beaten.strays)
            return sorted(set(beaten.lost)), sorted(set(beaten.cancel)), strays

        self.pair.both(extend)

    @rule(at=st.integers(0, 2), total=st.sampled_from([1, 20]), along=st.lists(st.tuples(recent, outcomes), max_size=3))
    def work(self, at: int, total: int, along: list[tuple[int, Outcome]]) -> None:
        """Beat and claim, as a healthy worker does: so that most of what is waiting is run by somebody."""
        self.beat(at, 3000.0, None)
        self.claim(at, total, list(QUEUES), along)

    @rule(
        at=indexes,
        total=st.sampled_from([1, 2, 20]),
        queues=st.permutations(QUEUES),
        along=st.lists(st.tuples(recent | indexes, outcomes), max_size=3),
    )
    def claim(self, at: int, total: int, queues: list[str], along: list[tuple[int, Outcome]]) -> None:
        """Claim, with outcomes along or without."""
        worker = self.workers[at % len(self.workers)]
        # A list of queues that was never asked for before is a new worker to the store: nothing that it remembers of
        # earlier claims can make the answer another.
        queues = [*queues, f"never {len(self.leases)} {uuid.uuid4()}"]
        want = Want(worker_id=worker, queues=tuple(queues), total=total, tenant=self.tenant)
        settlements = self._settlements(along)
        claimed: Claimed = self.pair.both(lambda store: store.claim(want, settlements))
        self._note(settlements, list(claimed.settled))
        self._leased(worker, list(claimed.leases))

    @rule(at=st.integers(0, 2), total=st.sampled_from([1, 2, 20]), queues=st.sampled_from([QUEUES, QUEUES[:1]]))
    def claim_again(self, at: int, total: int, queues: tuple[str, ...]) -> None:
        """Claim as the same worker does all day, so that the store uses what it remembers."""
        self.beat(at, 3000.0, None)
        want = Want(worker_id=self.workers[at], queues=queues, total=total, tenant=self.tenant)
        self._leased(self.workers[at], self.pair.claim_as_other(want))

    def _leased(self, worker: str, leases: list[Lease]) -> None:
        for lease in leases:
            self.claims[lease.id] += 1
            sweeps = lease.crashes - self.crashes_told[lease.id] + self.expired[lease.id]
            assert lease.fence == self.claims[lease.id] + sweeps, "fence = claims + sweeps"
            assert lease.attempt == self.claims[lease.id] - self.handed_back[lease.id]
            self.leases.append((worker, lease))

    @precondition(lambda self: self.leases)
    @rule(batch=st.lists(st.tuples(recent | indexes, outcomes), min_size=1, max_size=5))
    def settle(self, batch: list[tuple[int, Outcome]]) -> None:
        """Settle any leases that there ever were, also twice."""
        settlements = self._settlements(batch)
        self._note(settlements, self.pair.both(lambda store: store.settle(settlements)))

    @precondition(lambda self: self.leases)
    @rule(batch=st.lists(st.tuples(recent, outcomes), min_size=1, max_size=2))
    def settle_recent(self, batch: list[tuple[int, Outcome]]) -> None:
        """Settle what is likely to run: a rule of its own, so that it comes often."""
        self.settle(batch)

    @precondition(lambda self: self.leases)
    @rule(at=indexes, job=jobs)
    def enqueue_by(self, at: int, job: NewJob[object]) -> None:
        """Enqueue from a handler, whose lease may be lost."""
        _, by = self.leases[-1 - at % len(self.leases)]
        child = msgspec.structs.replace(job, id=new_id(), tenant=self.tenant)
        answers: list[Enqueued] = []
        try:
            answers = self.pair.both(lambda store: store.enqueue_by([child], by.ref, by.fence))
        except LeaseLost:
            (record,) = self.pair.both(lambda store: store.get(self.tenant, [child.id]))
            assert record is None
        if answers:
            self.sent.append(child)

    # -- upkeep and operators ---------------------------------------------------------------------------

    @rule(steps=st.sampled_from([0, 0, 1, 1, 3]))
    def advance(self, steps: int) -> None:
        """Let time pass."""
        self.pair.advance(1000.0 * steps + 10)

    @precondition(lambda self: self.leases)
    @rule(late=st.booleans(), work=st.booleans())
    def crash(self, late: bool, work: bool) -> None:
        """Let the worker of the latest lease be gone, found by a sweep at once or only after its time."""
        worker = self.leases[-1][0]
        if work:
            self.work(self.workers.index(worker), 20, [])
        if late:
            self.advance(3)
        else:
            self.beat(self.workers.index(worker), 0.0, None)
        self._sweep(Duty.ORPHANS)

    @rule(duty=st.sampled_from(Duty), at=st.none() | recent)
    def sweep(self, duty: Duty, at: int | None) -> None:
        """Do all of an upkeep, perhaps as a leader who may be none any more."""
        self._sweep(duty, None if at is None or not self.terms else self.terms[-1 - at % len(self.terms)])

    @precondition(lambda self: self.sent)
    @rule(change=changes, among=st.sampled_from([None, *StoredState]), picks=st.lists(indexes, min_size=1, max_size=4))
    def change(self, change: Change, among: StoredState | None, picks: list[int]) -> None:
        """Change jobs by id, any or those of one state."""
        some = None if among is None else self.pair.ids_in(among)
        ids = sorted(some or {job.id for job in self.sent})
        chosen = tuple(dict.fromkeys(ids[pick % len(ids)] for pick in picks))
        self.pair.both(lambda store: store.change(Selection(self.tenant, chosen), change))

    @precondition(lambda self: self.pair.ids_in(*FINAL_STORED))
    @rule(change=retries, picks=st.lists(indexes, min_size=1, max_size=3))
    def retry(self, change: Change, picks: list[int]) -> None:
        """Retry final jobs by hand."""
        ids = sorted(self.pair.ids_in(*FINAL_STORED))
        chosen = tuple(dict.fromkeys(ids[pick % len(ids)] for pick in picks))
        self.pair.both(lambda store: store.change(Selection(self.tenant, chosen), change))

    @rule(steps=st.sampled_from([1, 3, 5]))
    def expire(self, steps: int) -> None:
        """Let time pass, and sweep what has waited for too long."""
        self.advance(steps)
        self._sweep(Duty.EXPIRED)

    @rule(holder=st.sampled_from(["a", "b"]), ttl_s=st.sampled_from([0.0, 1000.0, 3000.0]))
    def elect(self, holder: str, ttl_s: float) -> None:
        """Lead, go on leading, or resign."""
        term = self.pair.both(lambda store: store.elect(f"upkeep of {self.tenant}", holder, ttl_s))
        if term is not None:
            self.terms.append(term)

    @rule(queue=st.sampled_from(QUEUES), paused=st.sampled_from([False, False, True]))
    def pause(self, queue: str, paused: bool) -> None:
        """Pause or resume."""
        self.pair.both(lambda store: store.pause(self.tenant, queue, paused))
        self.pair.both(lambda store: store.paused(self.tenant))

    # -- questions --------------------------------------------------------------------------------------

    @rule(
        states=st.lists(st.sampled_from(JobState), max_size=2, unique=True),
        queues=st.lists(st.sampled_from(QUEUES), max_size=1),
        kinds=st.lists(st.sampled_from(["x", "y"]), max_size=1),
        tags=st.lists(st.sampled_from(["t", "u"]), max_size=2, unique=True),
        page_size=st.sampled_from([1, 3, 100]),
    )
    def ask(self, states: list[JobState], queues: list[str], kinds: list[str], tags: list[str], page_size: int) -> None:
        """Ask for a list and for counts."""
        wanted = Filter(
            tenant=self.tenant, states=tuple(states), queues=tuple(queues), kinds=tuple(kinds), tags=tuple(tags)
        )

        async def find(store: Store) -> list[JobRecord]:
            found: list[JobRecord] = []
            query = Query(filter=wanted, page_size=page_size)
            for _ in range(1000):
                page = await store.find(query)
                found += page.jobs
                if page.next_before_id is None:
                    return found
                query = msgspec.structs.replace(query, before_id=page.next_before_id)
            raise AssertionError("the pages never end")

        async def count(store: Store) -> list[Count]:
            return sorted(await store.count(wanted), key=lambda c: (c.queue, c.state))

        self.pair.both(find)
        self.pair.both(count)

    @rule()
    def look(self) -> None:
        """Look at everything, and hold it against what was done."""
        for record in self._records():
            if record is not None:
                assert record.attempt == self.claims[record.id] - self.handed_back[record.id]
                assert (record.finished_at is not None) == (record.state in FINAL_STATES)
                assert (record.worker_id is not None) or record.state is not JobState.RUNNING
        refs = [job.ref for job in self.sent]
        self.pair.both(lambda store: store.history(refs))
        self.pair.both(lambda store: store.workers(self.tenant))

    def teardown(self) -> None:
        """Look once more; and leave nothing that another example could meet, also after a failure."""
        try:
            if not self.pair.differ:
                self._end()
        finally:
            self.pair.clean(self.tenant, self.workers, [job.id for job in self.sent])

    def _end(self) -> None:
        self.look()
        for worker in range(len(self.workers)):
            self.beat(worker, 0.0, None)
        for duty in (Duty.ORPHANS, Duty.ORPHANS_FULL, Duty.EXPIRED, Duty.WORKERS):
            self._sweep(duty)
        self.look()

    # -- helpers ----------------------------------------------------------------------------------------

    def _records(self) -> list[JobRecord | None]:
        ids = [job.id for job in self.sent]
        return self.pair.both(lambda store: store.get(self.tenant, ids))

    def _inserted(self, answers: list[Enqueued]) -> None:
        """An id that was gone without a trace starts anew."""
        for answer in answers:
            if answer.status is EnqueueStatus.INSERTED:
                for counter in (self.claims, self.handed_back, self.crashes_told, self.expired):
                    del counter[answer.ref.id]

    def _sweep(self, duty: Duty, term: Term | None = None) -> None:
        async def sweep(store: Store) -> tuple[int, bool]:
            total = 0
            for _ in range(1000):
                swept = await store.sweep(duty, 100, term)
                total += swept.count
                if not swept.more:
                    # How the history is kept, and so how much of it there is to sweep, is each store's own.
                    return 0 if duty is Duty.HISTORY else total, swept.deposed
            raise AssertionError("the sweep never ends")

        waiting = self.pair.ids_in(StoredState.WAITING)
        self.pair.both(sweep)
        if duty is Duty.EXPIRED:
            self.expired.update(waiting - self.pair.ids_in(StoredState.WAITING))

    def _settlements(self, batch: list[tuple[int, Outcome]]) -> list[Settlement]:
        if not self.leases:
            return []
        # Small indexes are the latest leases: most outcomes are of leases that hold.
        picked = [(self.leases[-1 - at % len(self.leases)][1], outcome) for at, outcome in batch]
        return [Settlement(lease.ref, lease.fence, outcome) for lease, outcome in picked]

    def _note(self, settlements: list[Settlement], answers: list[Answer]) -> None:
        for settlement, answer in zip(settlements, answers, strict=True):
            if answer is Answer.APPLIED and isinstance(settlement.outcome, Snooze | Release):
                self.handed_back[settlement.ref.id] += 1
            if answer is Answer.APPLIED and isinstance(settlement.outcome, Crash):
                self.crashes_told[settlement.ref.id] += 1
