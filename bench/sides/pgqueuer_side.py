"""PgQueuer, as its documentation has it: asyncpg, uvloop, `run(batch_size=…)`. Runs in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.sides import verbs
from bench.stamps import began

ENTRYPOINT = "noop"
DEQUEUE_TIMEOUT_S = 30


class PgQueuerSide:
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    def __init__(self) -> None:
        self._pool: asyncpg.Pool | None = None
        self._connection: asyncpg.Connection | None = None
        self._queries: Queries | None = None

    async def install(self, url: str) -> None:
        """Install its schema, durable (its default)."""
        connection = await asyncpg.connect(url)
        try:
            await Queries(AsyncpgDriver(connection)).install()
        finally:
            await connection.close()

    async def open(self, url: str, callers: int) -> None:
        """Connect: a pool for several callers, as a connection serves one."""
        if callers > 1:
            self._pool = await asyncpg.create_pool(url, min_size=callers, max_size=callers)
            self._queries = Queries(AsyncpgPoolDriver(self._pool))
        else:
            self._connection = await asyncpg.connect(url)
            self._queries = Queries(AsyncpgDriver(self._connection))

    async def enqueue_one(self, i: int) -> None:
        """One job, one call."""
        assert self._queries is not None
        await self._queries.enqueue(ENTRYPOINT, _payload(i))

    async def enqueue_many(self, numbers: range) -> None:
        """One call for all."""
        assert self._queries is not None
        count = len(numbers)
        await self._queries.enqueue([ENTRYPOINT] * count, [_payload(i) for i in numbers], [0] * count)

    async def close(self) -> None:
        """Disconnect."""
        for one in (self._pool, self._connection):
            if one is not None:
                await one.close()


def _payload(i: int) -> bytes:
    return verbs.text_of(i).encode()


async def work(url: str, batch: int) -> None:
    """One worker process, until SIGTERM."""
    logging.disable(logging.INFO)
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    async def noop(job: Job) -> None:
        began(json.loads(job.payload or b"{}")["i"])

    pgq.entrypoint(ENTRYPOINT)(noop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pgq.shutdown.set)
    await pgq.run(batch_size=batch, dequeue_timeout=timedelta(seconds=DEQUEUE_TIMEOUT_S))


if __name__ == "__main__":
    verbs.main(PgQueuerSide(), work)
