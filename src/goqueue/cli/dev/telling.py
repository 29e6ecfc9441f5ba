"""A line for each job, for `goqueue dev`: a store that says what passes through it, with a bound on how much.

The engine itself says which attempts failed; here are the lines that only somebody who watches wants.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, assert_never

import structlog

from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Release, Retry, Snooze

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from goqueue.model.job import JobRef, NewJob
    from goqueue.model.lease import Beat, Beaten, Claimed, Lease, Signal, Want
    from goqueue.model.outcome import Settlement
    from goqueue.model.query import Enqueued
    from goqueue.store.port import WorkStore

LINES_PER_S: Final = 20
"""Completed jobs that get a line of their own; the others of that second are counted in one."""
KNOWN_MAX: Final = 20_000
_WRITTEN: Final = frozenset({Answer.APPLIED, Answer.ALREADY})

log = structlog.get_logger("goqueue.engine")


class TellingStore:
    """A `WorkStore` over another one."""

    def __init__(self, store: WorkStore) -> None:
        self._store = store
        self._leases: dict[tuple[str, int], Lease] = {}
        self._lines = 0
        self._untold: Counter[str] = Counter()
        self._window: asyncio.TimerHandle | None = None

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        """As the store; what was settled on the way is told."""
        claimed = await self._store.claim(want, outcomes)
        self._tell(outcomes, claimed.settled)
        for lease in claimed.leases:
            self._leases[lease.id, lease.fence] = lease
        while len(self._leases) > KNOWN_MAX:  # leases that were lost and never settled
            del self._leases[next(iter(self._leases))]
        return claimed

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """As the store, and told."""
        answers = await self._store.settle(outcomes)
        self._tell(outcomes, answers)
        return answers

    async def extend(self, beat: Beat) -> Beaten:
        """As the store."""
        return await self._store.extend(beat)

    async def enqueue_by(self, jobs: Sequence[NewJob[Any]], by: JobRef, fence: int) -> list[Enqueued]:
        """As the store."""
        return await self._store.enqueue_by(jobs, by, fence)

    def signals(self, tenant: str, queues: Sequence[str]) -> AsyncIterator[Signal]:
        """As the store."""
        return self._store.signals(tenant, queues)

    def _tell(self, outcomes: Sequence[Settlement], answers: Sequence[Answer]) -> None:
        for settlement, answer in zip(outcomes, answers, strict=True):
            lease = self._leases.pop((settlement.ref.id, settlement.fence), None)
            if answer in _WRITTEN:
                self._tell_one(settlement, lease)
            elif answer is Answer.BUSY and lease is not None:
                self._leases[lease.id, lease.fence] = lease  # it comes again

    def _tell_one(self, settlement: Settlement, lease: Lease | None) -> None:
        facts: dict[str, object] = {"kind": lease.kind if lease else "?", "job_id": settlement.ref.id}
        match settlement.outcome:
            case Complete():
                self._tell_complete(facts)
            case Snooze(delay_s=delay_s, reason=reason):
                log.info("snooze", **facts, in_s=round(delay_s, 2), reason=reason)
            case Release():
                log.info("release", **facts)
            case Retry() | Dead() | Crash() | Cancel():
                pass  # told when it was decided, see goqueue.engine.report
            case _:
                assert_never(settlement.outcome)

    def _tell_complete(self, facts: dict[str, object]) -> None:
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(1.0, self._end_window)
        if self._lines < LINES_PER_S:
            self._lines += 1
            log.info("complete", **facts)
        else:
            self._untold[str(facts["kind"])] += 1

    def _end_window(self) -> None:
        self._window = None
        self._lines = 0
        untold, self._untold = self._untold, Counter()
        for kind, count in untold.items():
            log.info("complete", kind=kind, jobs=count)
        if untold:  # busy: from here on only counts, until a second passes without any
            self._lines = LINES_PER_S
            self._window = asyncio.get_running_loop().call_later(1.0, self._end_window)
