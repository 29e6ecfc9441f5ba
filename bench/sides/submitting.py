"""Submitting as fast as the answers come: how many a second, and how long each call took. Standard library only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bench.sides.feeding import CHUNK, Feeder

WARM_UP_SHARE = 10


async def submit(side: Feeder, verb: str, numbers: range, callers: int) -> dict[str, float]:
    """Submit all jobs and return the rate and the percentiles of a call, after a tenth of them as a warm-up.

    ``one`` and ``callers``: that many callers, each with a call a job. ``bulk``: calls of `CHUNK`, one after
    another, or one call for all, to a library that makes statements of it by itself.
    """
    warm = range(numbers.stop, numbers.stop + max(1, len(numbers) // WARM_UP_SHARE))
    for jobs in (warm, numbers):
        began = time.perf_counter()
        took = await (_bulk(side, jobs) if verb == "bulk" else _one_by_one(side, jobs, callers))
        elapsed_s = time.perf_counter() - began
    took.sort()
    percentiles = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    return {
        "per_s": len(numbers) / elapsed_s,
        **{name: took[int(len(took) * share)] * 1e3 for name, share in percentiles.items()},
    }


async def _one_by_one(side: Feeder, jobs: range, callers: int) -> list[float]:
    took: list[float] = []
    left = iter(jobs)
    await asyncio.gather(*(_caller(side, left, took) for _ in range(callers)))
    return took


async def _caller(side: Feeder, left: Iterator[int], took: list[float]) -> None:
    for i in left:
        began = time.perf_counter()
        await side.enqueue_one(i)
        took.append(time.perf_counter() - began)


async def _bulk(side: Feeder, jobs: range) -> list[float]:
    took: list[float] = []
    size = len(jobs) if side.takes_any_number else CHUNK
    for first in range(0, len(jobs), size):
        began = time.perf_counter()
        await side.enqueue_many(jobs[first : first + size])
        took.append(time.perf_counter() - began)
    return took
