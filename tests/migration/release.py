"""The code of an earlier release, run as a process of its own against a database of today.

Run as ``python release.py URL`` with the earlier package first on ``PYTHONPATH``: it uses only what that release had.
It reads commands, one on each line, and answers each with one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from goqueue.model.admin import Duty
from goqueue.model.errors import GoQueueError
from goqueue.model.job import ErrorInfo, NewJob, Unique
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Complete, Dead, Outcome, Retry, Settlement
from goqueue.model.query import CancelJobs, RetryJobs, Selection
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.tasks.prepare import new_id, prepare

QUEUES = ("default", "keyed", "new")
FAILED = ErrorInfo("ValueError", "no")


def new(**options: Any) -> NewJob[Any]:
    return prepare(NewJob(kind="noop", args=b'{"a":1}', **options))


class Old:
    """A worker and client of the release."""

    def __init__(self, url: str) -> None:
        self.store = PostgresStore(url, settings=StoreSettings(self_test_s=0.5))
        self.worker_id = new_id()
        self.fence: dict[str, int] = {}

    async def open(self) -> str:
        await self.store.open()
        await self.beat()
        return "open"

    async def beat(self) -> None:
        await self.store.extend(Beat(worker=WorkerInfo(id=self.worker_id, queues=QUEUES), ttl_s=60))

    async def enqueue(self, count: str) -> list[str]:
        """Plain jobs in bulk, one alone, and one that has a key."""
        jobs = [new() for _ in range(int(count))]
        answers = await self.store.enqueue(jobs)
        answers += await self.store.enqueue([new()])
        answers += await self.store.enqueue([new(queue="keyed", unique=Unique(key=new_id()))])
        return [answer.ref.id for answer in answers if answer.status == "inserted"]

    async def key(self, key: str) -> list[str]:
        (answer,) = await self.store.enqueue([new(queue="keyed", unique=Unique(key=key))])
        return [answer.status.value, answer.ref.id]

    async def work(self, total: str) -> dict[str, list[str]]:
        """Claim and settle: most complete, some are dead or come again."""
        told: dict[str, list[str]] = {"complete": [], "dead": [], "again": []}
        want = Want(worker_id=self.worker_id, queues=QUEUES, total=int(total))
        claimed = await self.store.claim(want)
        outcomes = []
        for nth, lease in enumerate(claimed.leases):
            how = ("complete", "complete", "dead", "again")[nth % 4]
            outcome: Outcome = {"complete": Complete(b"1"), "dead": Dead(FAILED), "again": Retry(0.0, FAILED)}[how]  # type: ignore[assignment]  # of three kinds
            outcomes.append(Settlement(lease.ref, lease.fence, outcome))
            told[how].append(lease.id)
        answers = (await self.store.claim(Want(worker_id=self.worker_id, queues=(), total=0), outcomes)).settled
        assert set(answers) <= {"applied"}, answers
        return told

    async def hold(self, total: str) -> list[str]:
        """Claim, and keep the leases."""
        claimed = await self.store.claim(Want(worker_id=self.worker_id, queues=QUEUES, total=int(total)))
        self.fence.update({lease.id: lease.fence for lease in claimed.leases})
        self.held = claimed.leases
        return [lease.id for lease in claimed.leases]

    async def finish(self) -> list[str]:
        """Complete what is held."""
        outcomes = [Settlement(lease.ref, lease.fence, Complete(b"1")) for lease in self.held]
        return [answer.value for answer in await self.store.settle(outcomes)]

    async def leave(self) -> int:
        """Take leave with what is held, and sweep it."""
        await self.store.extend(Beat(worker=WorkerInfo(id=self.worker_id, queues=QUEUES), ttl_s=0))
        swept = await self.store.sweep(Duty.ORPHANS, 100)
        for duty in (Duty.ORPHANS_FULL, Duty.WORKERS, Duty.HISTORY):
            await self.store.sweep(duty, 100)
        return swept.count

    async def retry(self, id: str) -> str:
        return (await self.store.change(Selection("default", (id,)), RetryJobs()))[0].status.value

    async def cancel(self, id: str) -> str:
        return (await self.store.change(Selection("default", (id,)), CancelJobs()))[0].status.value

    async def states(self, *ids: str) -> list[str | None]:
        return [r.state.value if r else None for r in await self.store.get("default", ids)]


async def main(url: str) -> None:
    old = Old(url)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, *args = line.split()
        try:
            answer = await getattr(old, name)(*args)
        except GoQueueError as e:
            answer = {"error": type(e).__name__, "text": str(e)}
        print(json.dumps(answer), flush=True)
    await old.store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
