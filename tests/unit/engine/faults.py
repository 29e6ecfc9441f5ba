"""A store with faults on order, and small helpers for the tests of the engine."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import DEFAULT_TENANT
from goqueue.model.lease import Beaten, Claimed, Held
from goqueue.model.state import StoredState
from goqueue.settings import WorkerSettings
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from goqueue.model.job import JobRecord, JobRef, NewJob
    from goqueue.model.lease import Beat, Lease, Signal, Want
    from goqueue.model.outcome import Answer, Settlement
    from goqueue.model.query import Enqueued

DEADLINE_S = 20.0


class FaultyStore:
    """A `WorkStore` over a memory store. ``down`` makes every call fail; the other knobs spoil single answers."""

    def __init__(self, memory: MemoryStore | None = None) -> None:
        self.memory = memory or MemoryStore()
        self.down = False
        self.extend_down = False
        self.lose_answers = 0
        """So many trips are carried out and their answers are lost."""
        self.spoil: Callable[[Settlement], Answer | Exception | None] = lambda _: None
        self.beats: list[Beat] = []
        self.settled: list[Settlement] = []
        self.answers: list[Answer] = []
        self.claims: list[int] = []
        self.leases: list[Lease] = []
        self.strays = False
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.slow_answers = asyncio.Event()
        """Answers with leases arrive when this is set."""
        self.slow_answers.set()

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        await self._weather()
        self.claims.append(want.total)
        settled = await self._settle(outcomes)
        claimed = await self.memory.claim(want)
        self.leases += claimed.leases
        self.note()
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("the answer was lost")
        if claimed.leases:
            await self.slow_answers.wait()
        return Claimed(tuple(settled), claimed.leases)

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        await self._weather()
        answers = await self._settle(outcomes)
        self.note()
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("the answer was lost")
        return answers

    async def _settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        answers: list[Answer] = []
        for outcome in outcomes:
            spoilt = self.spoil(outcome)
            if isinstance(spoilt, Exception):
                raise spoilt
            self.settled.append(outcome)
            answers.append((await self.memory.settle([outcome]))[0] if spoilt is None else spoilt)
        self.answers += answers
        return answers

    async def extend(self, beat: Beat) -> Beaten:
        await self._weather()
        if self.extend_down:
            raise StoreUnavailable("no beats today")
        self.beats.append(beat)
        beaten = await self.memory.extend(beat)
        if self.strays:
            beaten = msgspec.structs.replace(beaten, strays=self._strays(beat))
        self.note()
        return beaten

    def _strays(self, beat: Beat) -> tuple[Held, ...]:
        named = {(held.ref, held.fence) for held in beat.held}
        rows = [row for row in self.memory.memory.live.values() if row.worker_id == beat.worker.id]
        running = [(row.ref, row.fence) for row in rows if row.state is StoredState.RUNNING]
        return tuple(Held(ref, fence) for ref, fence in running if (ref, fence) not in named)

    async def enqueue_by(self, jobs: Sequence[NewJob[object]], by: JobRef, fence: int) -> list[Enqueued]:
        await self._weather()
        return await self.memory.enqueue_by(jobs, by, fence)

    def signals(self, tenant: str, queues: Sequence[str]) -> AsyncIterator[Signal]:
        return self.memory.signals(tenant, queues)

    async def _weather(self) -> None:
        await self.gate.wait()
        if self.down:
            raise StoreUnavailable("the store is down")

    # -- for the tests ----------------------------------------------------------------------------

    def note(self) -> None:
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds, looking after each call that reaches the store."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def enqueue(self, *jobs: NewJob[object]) -> list[str]:
        return [answer.ref.id for answer in await self.memory.enqueue([prepare(job) for job in jobs])]

    async def jobs(self, ids: Sequence[str]) -> list[JobRecord]:
        found = await self.memory.get(DEFAULT_TENANT, ids)
        assert all(job is not None for job in found)
        return [job for job in found if job is not None]


def quick(**changes: object) -> WorkerSettings:
    """Settings with short waits."""
    values: dict[str, object] = {"poll_s": 0.05, "grace_s": 10.0, "concurrency": 10, "threads": 4, "child_processes": 1}
    return WorkerSettings(**{**values, **changes})  # type: ignore[arg-type] # names and types are checked at run time


class Latch:
    """A handler's side of a test: it says that it has started, and waits until it may end."""

    def __init__(self) -> None:
        self.started: deque[object] = deque()
        self.start = asyncio.Event()
        self.end = asyncio.Event()

    async def pass_through(self, what: object = None) -> None:
        self.note(what)
        await self.end.wait()

    def note(self, what: object = None) -> None:
        self.started.append(what)
        self.start.set()

    async def until_started(self, count: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.started) < count:
                self.start.clear()
                await self.start.wait()
