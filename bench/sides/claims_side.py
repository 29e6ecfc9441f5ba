"""GoQueue's store by itself, no worker around it: claim a batch, settle it with the claim of the next.

Prints how long a claim took, and the CPU per job of this process and of the whole machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import uuid

import uvloop

from bench.processes import machine_busy_s
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Complete, Settlement
from goqueue.store.port import Store
from goqueue.wiring import open_store

LEASE_S = 600.0
LEARN_S = 1.0
WARM_UP = 5
"""Claims that are not measured: plans, lanes and caches are new."""
MEASURE_S = 20.0
PAUSE_S = 0.01
"""After a claim that found nothing: a worker would wait for a wake-up, or for its scan."""
DONE = Complete()


async def claim(url: str, queues: tuple[str, ...], batch: int, count: int) -> dict[str, float | None]:
    """Claim and settle as many jobs as fill ``count`` batches, but for `MEASURE_S` at most."""
    store = open_store(url)
    await store.open()
    try:
        worker = WorkerInfo(id=str(uuid.uuid4()), queues=queues)
        await store.extend(Beat(worker=worker, ttl_s=LEASE_S))
        want = Want(worker_id=worker.id, queues=queues, total=batch)
        outcomes: list[Settlement] = []
        took: list[float] = []
        jobs = 0
        # As a worker does: it listens, and so learns whether its statements may be prepared.
        listening = asyncio.create_task(_listen(store, queues))
        await asyncio.sleep(LEARN_S)
        for _ in range(WARM_UP):
            outcomes = await _turn(store, want, outcomes)
        machine, own, began = machine_busy_s(), time.process_time(), time.perf_counter()
        while jobs < count * batch and (elapsed_s := time.perf_counter() - began) < MEASURE_S:
            outcomes = await _turn(store, want, outcomes)
            took.append(time.perf_counter() - began - elapsed_s)
            jobs += len(outcomes)
            if not outcomes:
                await asyncio.sleep(PAUSE_S)
        per_s = jobs / (time.perf_counter() - began)
        own_us = (time.process_time() - own) / max(jobs, 1) * 1e6
        after = machine_busy_s()
        machine_us = None if machine is None or after is None else (after - machine) / max(jobs, 1) * 1e6
        await store.settle(outcomes)
        listening.cancel()
    finally:
        await store.close()
    took.sort()
    return {
        "jobs": jobs,
        "per_s": per_s,
        "p50_ms": took[len(took) // 2] * 1e3,
        "max_ms": took[-1] * 1e3,
        "own_us": own_us,
        "machine_us": machine_us,
    }


async def _listen(store: Store, queues: tuple[str, ...]) -> None:
    async for _ in store.signals("default", queues):
        pass


async def _turn(store: Store, want: Want, outcomes: list[Settlement]) -> list[Settlement]:
    claimed = await store.claim(want, outcomes)
    return [Settlement(lease.ref, lease.fence, DONE) for lease in claimed.leases]


def main() -> None:
    """Parse the command line and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--queues", type=int, default=1, help="claim from q0, q1, …")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    queues = tuple(f"q{number}" for number in range(options.queues))
    print(json.dumps(uvloop.run(claim(options.url, queues, options.batch, options.count))))


if __name__ == "__main__":
    main()
