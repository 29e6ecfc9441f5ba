"""GoQueue jobs that are committed late: each is enqueued in its caller's own transaction, open for two seconds."""

from __future__ import annotations

import argparse
import asyncio
import time

import psycopg
import uvloop

from bench.sides.goqueue_side import GoQueueSide, app
from bench.stamps import Stamps, attached
from goqueue import AsyncClient

OPEN_S = 2.0
SPACING_S = 0.1


async def late(url: str, stamps: Stamps, numbers: range) -> None:
    """Begin a transaction every tenth of a second; note when it has committed."""
    side = GoQueueSide()
    client = AsyncClient(app, url)
    try:
        async with asyncio.TaskGroup() as group:
            for i in numbers:
                group.create_task(_one(url, client, side, stamps, i))
                await asyncio.sleep(SPACING_S)
    finally:
        await client.close()


async def _one(url: str, client: AsyncClient, side: GoQueueSide, stamps: Stamps, i: int) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await client.enqueue(side.job(i), conn=connection)
        await asyncio.sleep(OPEN_S)
        await connection.commit()
        stamps.sent[i] = time.monotonic_ns()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    uvloop.run(late(options.url, attached(), range(options.first, options.first + options.count)))


if __name__ == "__main__":
    main()
