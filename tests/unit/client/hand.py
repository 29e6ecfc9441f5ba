"""A worker by hand: takes jobs from a memory store and decides them. Blocks never, so both clients' tests use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.lease import Beat, Lease, Want, WorkerInfo
from goqueue.model.outcome import Answer, Complete, Outcome, Settlement
from goqueue.settings import ClientSettings
from goqueue.store.memory import working

if TYPE_CHECKING:
    from goqueue.store.memory.core import Memory

WORKER = "0199a1b2-0000-7000-8000-00000000000a"
FAST = ClientSettings(retry_base_s=0.0, wait_min_s=0.001, wait_max_s=0.004, exists_polls=3)


class Hand:
    """Runs what is due in the default queue, one job at a time."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        with memory._lock:
            working.extend(memory, Beat(worker=WorkerInfo(id=WORKER), ttl_s=3600))

    def take(self) -> Lease:
        """Claim the next job."""
        with self.memory._lock:
            claimed = working.claim(self.memory, Want(worker_id=WORKER, queues=("default",), total=1), ())
        return claimed.leases[0]

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """Decide it."""
        with self.memory._lock:
            answers = working.settle(self.memory, [Settlement(lease.ref, lease.fence, outcome)])
        assert answers == [Answer.APPLIED]

    def do(self, outcome: Outcome | None = None) -> None:
        """Claim the next job and decide it."""
        self.settle(self.take(), outcome or Complete())
