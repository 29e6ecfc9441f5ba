"""Raw SQL: what the database and the driver do when there is nothing to decode and no handler to call."""

from __future__ import annotations

import asyncio
import os

import asyncpg

from bench.sides import bare, verbs
from bench.stamps import began

ONE = "INSERT INTO bare_job (kind, args) VALUES ('noop', $1) RETURNING id"
PAUSE_S = 0.001


class RawSide(bare.BareTable):
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    async def enqueue_one(self, i: int) -> None:
        """One job, one statement, nobody is woken."""
        await self.pool.fetchval(ONE, verbs.text_of(i))

    async def enqueue_many(self, numbers: range) -> None:
        """One COPY for all."""
        records = [("noop", verbs.text_of(i)) for i in numbers]
        await self.pool.copy_records_to_table("bare_job", records=records, columns=["kind", "args"])


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
