"""Feeding a store: in bulk, one by one, as fast as it is worked on, at a steady rate. Standard library only."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

from bench.stamps import Stamps

CHUNK = 1_000
"""Jobs of one call of `enqueue_many`."""
OUTSTANDING_MAX = 3_000
SPACING_S = (0.02, 0.05)
TICK_S = 0.01
FIRST_JOB_S = 60.0
FLOW_STALL_S = 60.0


class Feeder(Protocol):
    """What of a side is needed here."""

    takes_any_number: bool
    """Whether `enqueue_many` is meant for more than `CHUNK` jobs, too: the library makes statements of them."""

    async def enqueue_one(self, i: int) -> None:
        """Enqueue one job."""

    async def enqueue_many(self, numbers: range) -> None:
        """Enqueue at most `CHUNK` jobs in one call."""


async def fill(side: Feeder, numbers: range) -> None:
    """Enqueue jobs in bulk."""
    for first in range(0, len(numbers), CHUNK):
        await side.enqueue_many(numbers[first : first + CHUNK])


async def trickle(side: Feeder, stamps: Stamps, numbers: range, seed: int) -> None:
    """Enqueue one job every 20 to 50 ms, and note when; the first waits until the worker is up."""
    spacing = random.Random(seed)
    for i in numbers:
        stamps.sent[i] = time.monotonic_ns()
        await side.enqueue_one(i)
        if i == numbers.start:
            async with asyncio.timeout(FIRST_JOB_S):
                while not stamps.started[i]:  # noqa: ASYNC110  another process writes it
                    await asyncio.sleep(0.02)
        await asyncio.sleep(spacing.uniform(*SPACING_S))


async def flow(side: Feeder, stamps: Stamps, numbers: range) -> None:
    """Enqueue jobs in bulk, with never more than `OUTSTANDING_MAX` that have not begun."""
    sent = 0
    chunks: list[range] = []
    moved_at = time.monotonic()
    while sent < len(numbers):
        left = [stamps.waiting(chunk.start, chunk.stop) for chunk in chunks]
        size = min(CHUNK, OUTSTANDING_MAX, len(numbers) - sent)
        if sum(left) + size <= OUTSTANDING_MAX:
            chunks = [chunk for chunk, waiting in zip(chunks, left, strict=True) if waiting]
            chunk = numbers[sent : sent + size]
            await side.enqueue_many(chunk)
            chunks.append(chunk)
            sent += size
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > FLOW_STALL_S:
            raise TimeoutError(f"no job has begun for {FLOW_STALL_S:.0f} s; {sent} of {len(numbers)} were sent")
        else:
            await asyncio.sleep(0.002)


async def pace(side: Feeder, stamps: Stamps, numbers: range, per_s: float, stop: asyncio.Event) -> None:
    """Every `TICK_S` enqueue the jobs that are due by then, and note when; until ``stop``, or all are sent.

    A store that is too slow for the rate gets ever larger calls, up to `CHUNK`; the stamps show how far it is behind.
    """
    started = time.monotonic()
    sent = 0
    tick = 0
    while sent < len(numbers) and not stop.is_set():
        tick += 1
        if (pause := started + tick * TICK_S - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        due = min(len(numbers), int((time.monotonic() - started) * per_s))
        chunk = numbers[sent : min(due, sent + CHUNK)]
        if chunk:
            now = time.monotonic_ns()
            for i in chunk:
                stamps.sent[i] = now
            await side.enqueue_many(chunk)
            sent += len(chunk)
