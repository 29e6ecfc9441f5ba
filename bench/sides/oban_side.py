"""Oban for Python, as its documentation has it: a pool of psycopg, one queue with a limit. Needs Python 3.12."""

from __future__ import annotations

import logging
from typing import Any

from oban import Oban, worker
from oban.job import Job
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from bench.sides import verbs
from bench.stamps import began

WORKER_CONNECTIONS = (2, 10)


class _Noop:
    """Note that it began."""

    async def process(self, job: Job) -> None:
        """See `oban.worker`."""
        began(job.args["i"])


Noop: Any = worker(queue="default")(_Noop)  # Any: the decorator adds `new`


class ObanSide:
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    def __init__(self) -> None:
        self._pool: AsyncConnectionPool | None = None
        self._oban: Oban | None = None

    async def install(self, url: str) -> None:
        """Install its schema."""
        async with AsyncConnectionPool(url, min_size=1, max_size=1, open=False) as pool:
            await install(pool)

    async def open(self, url: str, callers: int) -> None:
        """Open a pool for that many callers."""
        self._pool = AsyncConnectionPool(url, min_size=callers, max_size=callers, open=False)
        await self._pool.open(wait=True)
        self._oban = Oban(pool=self._pool)

    async def enqueue_one(self, i: int) -> None:
        """One job, one call."""
        assert self._oban is not None
        await self._oban.enqueue(Noop.new(vars(verbs.Arguments.of(i))))

    async def enqueue_many(self, numbers: range) -> None:
        """One call for all."""
        assert self._oban is not None
        await self._oban.enqueue_many([Noop.new(vars(verbs.Arguments.of(i))) for i in numbers])

    async def close(self) -> None:
        """Disconnect."""
        if self._pool is not None:
            await self._pool.close()


async def work(url: str, limit: int) -> None:
    """One worker process, until SIGTERM."""
    logging.disable(logging.INFO)
    stop = verbs.told_to_stop()
    least, most = WORKER_CONNECTIONS
    async with (
        AsyncConnectionPool(url, min_size=least, max_size=most, open=False) as pool,
        Oban(pool=pool, queues={"default": limit}),
    ):
        await stop.wait()


if __name__ == "__main__":
    verbs.main(ObanSide(), work)
