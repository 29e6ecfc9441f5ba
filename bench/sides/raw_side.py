"""Raw SQL: what the database and the driver do when there is nothing to decode and no handler to call."""

from __future__ import annotations

import asyncio
import os

import asyncpg

from bench.sides import bare, verbs
from bench.stamps import began

ONE = "INSERT INTO bare_job (kind, args) VALUES ('noop', $1) RETURNING id"
PAUSE_S = 0.001


class RawSide:
    """See `bench.sides.verbs.Side`."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool | None = None

    async def install(self, url: str) -> None:
        """Make the table."""
        await bare.install(url)

    async def open(self, url: str, callers: int) -> None:
        """Connect."""
        self._pool = await bare.pool(url, callers)

    async def enqueue_one(self, i: int) -> None:
        """One job, one statement, nobody is woken."""
        assert self._pool is not None
        await self._pool.fetchval(ONE, verbs.text_of(i))

    async def enqueue_many(self, numbers: range) -> None:
        """One COPY for all."""
        assert self._pool is not None
        records = [("noop", verbs.text_of(i)) for i in numbers]
        await self._pool.copy_records_to_table("bare_job", records=records, columns=["kind", "args"])

    async def close(self) -> None:
        """Disconnect."""
        if self._pool is not None:
            await self._pool.close()


async def work(url: str, batch: int) -> None:
    """One worker process, until SIGTERM: rows are numbered from 1 in the order of the jobs."""
    stop = verbs.told_to_stop()
    turn = await (await asyncpg.connect(url)).prepare(bare.TURN)
    done: list[int] = []
    while not stop.is_set():
        rows = await turn.fetch(str(os.getpid()), batch, done)
        done = [row["id"] for row in rows]
        for id in done:
            began(id - 1)
        if not rows:
            await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    verbs.main(RawSide(), work)
