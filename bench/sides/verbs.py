"""The words that every side understands, and its command line.

``install`` the schema; ``fill`` in bulk, and print the CPU seconds that the machine and this process took for it;
``one``, ``callers`` and ``bulk`` submit, and print how fast; ``trickle`` one job every 20 to 50 ms, ``flow`` as fast as
they are worked on, ``pace`` at a steady rate until SIGTERM; ``work``. Standard library and uvloop only: the peers
import it in their own environments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import uvloop

from bench.processes import machine_busy_s
from bench.sides import feeding, submitting
from bench.stamps import attached

FEEDING = ("trickle", "flow", "pace")
SUBMITTING = ("one", "callers", "bulk")


class Side(Protocol):
    """One system under measurement, as its users use it."""

    takes_any_number: bool
    """See `feeding.Feeder`."""

    async def install(self, url: str) -> None:
        """Bring the schema into an empty database."""

    async def open(self, url: str, callers: int) -> None:
        """Connect, for that many callers at the same time."""

    async def enqueue_one(self, i: int) -> None:
        """Enqueue job ``i`` and return when it is durable."""

    async def enqueue_many(self, numbers: range) -> None:
        """Enqueue these jobs, at most `feeding.CHUNK`, the way that is meant for many."""

    async def close(self) -> None:
        """Disconnect."""


Work = Callable[[str, int], Awaitable[None]]
"""One worker process, given the url and how much to take at a time, until SIGTERM."""


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


def text_of(i: int) -> str:
    """The arguments of job ``i`` as JSON."""
    return json.dumps(vars(Arguments.of(i)))


def told_to_stop() -> asyncio.Event:
    """An event that SIGTERM sets."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


def main(side: Side, work: Work | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["install", "fill", *SUBMITTING, *FEEDING, *(["work"] if work else [])])
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first job")
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--per-s", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.verb == "work" and work is not None:
        uvloop.run(_awaited(work(options.url, options.count)))
    elif options.verb == "install":
        uvloop.run(side.install(options.url))
    else:
        uvloop.run(_connected(side, options))


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def _connected(side: Side, options: argparse.Namespace) -> None:
    numbers = range(options.first, options.first + options.count)
    await side.open(options.url, options.callers)
    try:
        match options.verb:
            case "fill":
                before, own_before = machine_busy_s(), time.process_time()
                await feeding.fill(side, numbers)
                after, own_s = machine_busy_s(), time.process_time() - own_before
                print(json.dumps(None if before is None or after is None else [after - before, own_s]))
            case "trickle":
                await feeding.trickle(side, attached(), numbers, options.seed)
            case "flow":
                await feeding.flow(side, attached(), numbers)
            case "pace":
                await feeding.pace(side, attached(), numbers, options.per_s, told_to_stop())
            case verb:
                print(json.dumps(await submitting.submit(side, verb, numbers, options.callers)))
    finally:
        await side.close()
