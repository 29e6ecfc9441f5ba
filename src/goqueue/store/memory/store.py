"""`MemoryStore`: the whole port over a `Memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goqueue.model.admin import Capabilities, SchemaStatus
from goqueue.store.memory import diagnosis, enqueueing, upkeep, working
from goqueue.store.memory.core import Memory
from goqueue.store.memory.signals import Signals
from goqueue.store.memory.sync import SyncMemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.admin import Duty, Finding, Record, Swept, Term
    from goqueue.model.job import JobRecord, JobRef, NewJob
    from goqueue.model.lease import Beat, Beaten, Claimed, Want, WorkerRecord
    from goqueue.model.outcome import Answer, Settlement
    from goqueue.model.query import Change, Changed, Count, Enqueued, Filter, Page, Query, Selection
    from goqueue.settings import StoreSettings
    from goqueue.store.memory.clock import Clock
    from goqueue.store.port import Store

CAPABILITIES: Final = Capabilities(
    store="memory",
    durable=False,
    transactional_enqueue=False,
    transactional_complete=False,
    shared=False,
    notifications=True,
    time_travel=True,
)


class MemoryStore:
    """A `goqueue.store.port.Store` in this process's memory. ``memory`` is shared with whoever else is given it."""

    def __init__(
        self,
        memory: Memory | None = None,
        *,
        settings: StoreSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.memory = memory or Memory(settings, clock=clock)
        self._sync = SyncMemoryStore(self.memory)
        self._signals: set[Signals] = set()

    # -- jobs ---------------------------------------------------------------------------------------

    async def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Store jobs."""
        return self._sync.enqueue(jobs, retry)

    async def change(self, selection: Selection, change: Change) -> list[Changed]:
        """Cancel, retry or delete jobs by id."""
        return self._sync.change(selection, change)

    async def find(self, query: Query) -> Page:
        """Return one page of jobs."""
        return self._sync.find(query)

    async def count(self, filter: Filter) -> list[Count]:
        """Count jobs that are not final."""
        return self._sync.count(filter)

    async def history(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        """Return jobs that are final."""
        return self._sync.history(refs)

    async def get(self, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        """Return jobs by id."""
        return self._sync.get(tenant, ids)

    # -- work ---------------------------------------------------------------------------------------

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        """Settle, and lease due jobs."""
        with self._open().verb():
            return working.claim(self.memory, want, outcomes)

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Decide attempts."""
        with self._open().verb():
            return working.settle(self.memory, outcomes)

    async def extend(self, beat: Beat) -> Beaten:
        """Note a sign of life."""
        with self._open().verb():
            return working.extend(self.memory, beat)

    async def enqueue_by(self, jobs: Sequence[NewJob[object]], by: JobRef, fence: int) -> list[Enqueued]:
        """Store jobs only while the lease holds."""
        with self._open().verb():
            return enqueueing.enqueue_by(self.memory, jobs, by, fence)

    def signals(self, tenant: str, queues: Sequence[str]) -> Signals:
        """Yield when jobs may have become due in one of these queues, or when a running job shall stop."""
        signals = Signals(self._open(), tenant, queues)
        self._signals.add(signals)
        return signals

    # -- upkeep -------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What this store can promise: little."""
        return CAPABILITIES

    async def sweep(self, duty: Duty, limit: int, term: Term | None = None) -> Swept:
        """Do a bounded piece of upkeep, unless ``term`` is over."""
        with self._open().verb():
            return upkeep.sweep(self.memory, duty, limit, term)

    async def elect(self, name: str, holder: str, ttl_s: float) -> Term | None:
        """Lead, go on leading, or resign."""
        with self._open().verb():
            return upkeep.elect(self.memory, name, holder, ttl_s)

    async def read(self, name: str) -> Record | None:
        """Read a record."""
        with self._open().verb():
            return upkeep.read(self.memory, name)

    async def write(self, name: str, value: bytes, version: int, ttl_s: float | None = None) -> Record | None:
        """Write a record under compare-and-set."""
        with self._open().verb():
            return upkeep.write(self.memory, name, value, version, ttl_s)

    async def workers(self, tenant: str) -> list[WorkerRecord]:
        """List workers, newest first."""
        with self._open().verb():
            return upkeep.workers(self.memory, tenant)

    async def pause(self, tenant: str, queue: str, paused: bool) -> None:
        """Stop or resume claims from a queue."""
        with self._open().verb():
            upkeep.pause(self.memory, tenant, queue, paused)

    async def paused(self, tenant: str) -> list[str]:
        """Name the paused queues."""
        with self._open().verb():
            return upkeep.paused(self.memory, tenant)

    async def migrate(self) -> SchemaStatus:
        """Do nothing: there is no schema."""
        return await self.schema()

    async def schema(self) -> SchemaStatus:
        """Say that there is nothing to migrate."""
        return SchemaStatus(current=0, target=0)

    async def diagnose(self) -> list[Finding]:
        """Say that this store keeps nothing, and name jobs that nobody will run."""
        with self._open().verb():
            return diagnosis.diagnose(self.memory)

    async def ping(self) -> None:
        """Answer, unless closed."""
        self._open()

    # -- life ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Do nothing: there is nothing to connect to."""
        self._open()

    async def close(self) -> None:
        """Refuse further calls and end all signals. The jobs stay in `Memory` for whoever shares it."""
        self._sync.close()
        for signals in self._signals:
            signals.end()
        self._signals.clear()

    def abandon(self) -> None:
        """Refuse further calls."""
        self._sync.close()
        self._signals.clear()

    def time_travel(self, seconds: float) -> None:
        """Move the store's clock, for tests."""
        self.memory.time_travel(seconds)

    def _open(self) -> Memory:
        self._sync.open()
        return self.memory


if TYPE_CHECKING:

    def _is_a_store(store: MemoryStore) -> Store:
        return store
