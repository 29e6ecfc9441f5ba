"""The words that every side understands: ``install``, ``fill``, ``trickle`` and ``flow``.

Standard library only: the peers import it in their own environment.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.stamps import Stamps, attached

CHUNK = 1_000
OUTSTANDING_MAX = 3_000
SPACING_S = (0.02, 0.05)
FIRST_JOB_S = 60.0
FLOW_STALL_S = 60.0


class Side(Protocol):
    """One system under measurement, as its users use it."""

    async def install(self, url: str) -> None:
        """Bring the schema into an empty database."""

    async def open(self, url: str) -> None:
        """Connect."""

    async def enqueue_one(self, i: int) -> None:
        """Enqueue job ``i`` and return when it is durable."""

    async def enqueue_many(self, numbers: range) -> None:
        """Enqueue these jobs the way that is meant for many."""

    async def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of a job: about 100 bytes as JSON."""

    i: int
    to: str
    user: str
    body: str

    @classmethod
    def of(cls, i: int) -> Arguments:
        """Those of job ``i``."""
        return cls(i, "email", f"user-{i:08d}", "lorem ipsum dolor sit amet, consect")


async def fill(side: Side, count: int) -> None:
    """Enqueue ``count`` jobs in bulk."""
    for first in range(0, count, CHUNK):
        await side.enqueue_many(range(first, min(first + CHUNK, count)))


async def trickle(side: Side, stamps: Stamps, count: int, seed: int) -> None:
    """Enqueue one job every 20 to 50 ms, and note when; the first waits until the worker is up."""
    spacing = random.Random(seed)
    for i in range(count):
        stamps.sent[i] = time.monotonic_ns()
        await side.enqueue_one(i)
        if i == 0:
            async with asyncio.timeout(FIRST_JOB_S):
                while not stamps.started[0]:  # noqa: ASYNC110  another process writes it
                    await asyncio.sleep(0.02)
        await asyncio.sleep(spacing.uniform(*SPACING_S))


async def flow(side: Side, stamps: Stamps, count: int) -> None:
    """Enqueue ``count`` jobs in bulk, with never more than `OUTSTANDING_MAX` that have not begun."""
    sent = 0
    chunks: list[range] = []
    moved_at = time.monotonic()
    while sent < count:
        left = [stamps.waiting(chunk.start, chunk.stop) for chunk in chunks]
        size = min(CHUNK, OUTSTANDING_MAX, count - sent)
        if sum(left) + size <= OUTSTANDING_MAX:
            chunks = [chunk for chunk, waiting in zip(chunks, left, strict=True) if waiting]
            numbers = range(sent, sent + size)
            await side.enqueue_many(numbers)
            chunks.append(numbers)
            sent += size
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > FLOW_STALL_S:
            raise TimeoutError(f"no job has begun for {FLOW_STALL_S:.0f} s; {sent} of {count} were sent")
        else:
            await asyncio.sleep(0.002)


async def run(side: Side, options: argparse.Namespace) -> None:
    """Do what one command line says."""
    if options.verb == "install":
        await side.install(options.url)
        return
    await side.open(options.url)
    try:
        match options.verb:
            case "fill":
                await fill(side, options.count)
            case "trickle":
                await trickle(side, attached(), options.count, options.seed)
            case _:
                await flow(side, attached(), options.count)
    finally:
        await side.close()


def parser(*, extra: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line of a side; ``extra`` are verbs of its own."""
    made = argparse.ArgumentParser()
    made.add_argument("verb", choices=["install", "fill", "trickle", "flow", *extra])
    made.add_argument("url")
    made.add_argument("--count", type=int, default=0)
    made.add_argument("--seed", type=int, default=0)
    return made
