"""Two stores that are told the same things and must answer alike."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from goqueue.model import limits
from goqueue.model.admin import Duty
from goqueue.model.errors import GoQueueError
from goqueue.model.job import NewJob
from goqueue.model.lease import Beat, Claimed, Lease, Want, WorkerInfo
from goqueue.model.query import DeleteJobs, Selection
from goqueue.model.state import StoredState
from goqueue.store.memory import MemoryStore, working
from goqueue.store.port import Store
from tests.property.values import SETTINGS

T = TypeVar("T")

NEAR_S = 5.0
"""Both stores run on real time plus what was travelled; the machine keeps every deadline further away than this."""


class TravellingStore(Store, Protocol):
    """A store whose clock tests can move."""

    def time_travel(self, seconds: float) -> None: ...


class Pair:
    """The model, the store under test, and the loop on which both live."""

    def __init__(self, other: TravellingStore, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.model = MemoryStore(settings=SETTINGS)
        self._other = other
        self._run = run
        self._travelled = 0.0
        self.differ = False
        """One difference leads to others: then there is nothing more to compare."""

    def advance(self, seconds: float) -> None:
        """Move both clocks."""
        self._travelled += seconds
        self.model.time_travel(seconds)
        self._other.time_travel(seconds)

    def both(self, ask: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Put one question to both, and return the model's answer, which is the other's too."""
        expected, answer = self._answer(ask, self.model), self._answer(ask, self._other)
        if complaint := difference(expected, answer):
            self.differ = True
            raise AssertionError(f"the stores differ: {complaint}\n  model: {expected!r}\n  other: {answer!r}")
        if isinstance(expected, GoQueueError):
            raise expected
        return expected

    def claim_as_other(self, want: Want) -> list[Lease]:
        """Let the other store claim as it likes, and the model follow, if it was right to.

        A store may learn of new lanes a little late, and then leaves jobs for the next claim. But what it gives has to
        be due, in order within each priority of a queue, and no more than was wanted.
        """
        claimed: Claimed = self._run(self._other.claim(want))
        memory, taken = self.model.memory, list(claimed.leases)
        try:
            assert len(taken) <= want.total, "the stores differ: more leases than wanted"
            with memory.verb():
                hears = memory.alive(want.tenant, want.worker_id)
                assert not taken or hears, "the stores differ: leases for a worker that is gone"
                rows = [row for queue in want.queues for row in working.due(memory, want.tenant, queue)]
                for place in {(lease.queue, lease.priority) for lease in taken}:
                    lane = [row for row in rows if (row.job.queue, row.job.priority) == place]
                    given = [lease.id for lease in taken if (lease.queue, lease.priority) == place]
                    first = [row.job.id for row in lane[: len(given)]]
                    assert given == first, f"the stores differ: {given} are not the first of {place}, {first}"
                by_id = {row.job.id: row for row in rows}
                followed = [working.lease(memory, by_id[lease.id], want.worker_id) for lease in taken]
            complaint = difference(followed, taken)
            assert not complaint, f"the stores differ: {complaint}"
        except AssertionError:
            self.differ = True
            raise
        return followed

    def holds_its_key(self, job: NewJob[object]) -> bool:
        """Tell whether the job's unique key is held under its own id, as the model knows it."""
        if job.unique is None:
            return False
        holder = self.model.memory.holder((job.tenant, job.queue, job.unique.digest))
        return holder is not None and holder.id == job.id

    def ids_in(self, *states: StoredState) -> set[str]:
        """Return the ids of the jobs in these states, as the model knows them."""
        memory = self.model.memory
        return {row.job.id for row in (*memory.live.values(), *memory.past.values()) if row.state in states}

    def clean(self, tenant: str, workers: Sequence[str], ids: Sequence[str]) -> None:
        """Leave no job in the other store, and its clock where it was: it serves another example next."""
        for worker in workers:
            self._run(self._other.extend(Beat(worker=WorkerInfo(id=worker), ttl_s=0, tenant=tenant)))
        self.advance(2 * limits.WORKER_KEPT_S)
        for duty in (Duty.ORPHANS, Duty.WORKERS):
            for _ in range(100):
                if not self._run(self._other.sweep(duty, 1000)).more:
                    break
        self._run(self._other.change(Selection(tenant, tuple(dict.fromkeys(ids))), DeleteJobs()))
        self._other.time_travel(-self._travelled)

    def _answer(self, ask: Callable[[Store], Coroutine[Any, Any, T]], store: Store) -> T | GoQueueError:
        try:
            answer: T = self._run(ask(store))
        except GoQueueError as error:
            return error
        else:
            return answer


def difference(a: object, b: object, path: str = "answer") -> str:
    """Say where two answers differ: instants and durations by more than a moment, JSON by value, errors by type."""
    if isinstance(a, msgspec.Raw | bytes) and isinstance(b, msgspec.Raw | bytes):
        a, b = msgspec.json.decode(bytes(a)), msgspec.json.decode(bytes(b))
        return "" if a == b else f"{path}: {a!r} is not {b!r}"
    if type(a) is not type(b):
        return f"{path}: {a!r} is not {b!r}"
    if isinstance(a, GoQueueError):
        return ""
    if isinstance(a, msgspec.Struct):
        return _first(difference(getattr(a, name), getattr(b, name), f"{path}.{name}") for name in a.__struct_fields__)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return f"{path}: {len(a)} items are not {len(b)}"
        return _first(difference(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    if isinstance(a, datetime) and isinstance(b, datetime):
        return "" if abs((a - b).total_seconds()) < NEAR_S else f"{path}: {a} is not near {b}"
    if isinstance(a, float) and isinstance(b, float):
        return "" if abs(a - b) < NEAR_S else f"{path}: {a} is not near {b}"
    return "" if a == b else f"{path}: {a!r} is not {b!r}"


def _first(complaints: Iterable[str]) -> str:
    return next(filter(None, complaints), "")
