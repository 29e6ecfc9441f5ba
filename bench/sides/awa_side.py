"""Awa: its asynchronous Python client and worker, queue storage (its default), COPY for many jobs."""

from __future__ import annotations

from dataclasses import dataclass

import awa

from bench.sides import verbs
from bench.stamps import began

QUEUE = "default"
POLL_MS = 50


@dataclass
class Noop:
    """Its arguments; the class is the kind."""

    i: int
    to: str
    user: str
    body: str


class AwaSide:
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    def __init__(self) -> None:
        self._client: awa.AsyncClient | None = None

    async def install(self, url: str) -> None:
        """Migrate, and choose its queue storage, as a fresh installation does."""
        client = _client(url)
        await client.migrate()
        await client.install_queue_storage()
        await client.close()

    async def open(self, url: str, callers: int) -> None:  # noqa: ARG002  its pool serves them all
        """Make the client."""
        self._client = _client(url)

    async def enqueue_one(self, i: int) -> None:
        """One job, one call."""
        assert self._client is not None
        await self._client.insert(_job(i), queue=QUEUE)

    async def enqueue_many(self, numbers: range) -> None:
        """One call for all."""
        assert self._client is not None
        await self._client.enqueue_many_copy([_job(i) for i in numbers], queue=QUEUE)

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.close()


def _client(url: str) -> awa.AsyncClient:
    return awa.AsyncClient(url.replace("postgresql://", "postgres://", 1))


def _job(i: int) -> Noop:
    return Noop(**vars(verbs.Arguments.of(i)))


async def work(url: str, batch: int) -> None:
    """One worker process, until SIGTERM."""
    stop = verbs.told_to_stop()
    client = _client(url)

    async def noop(job: awa.Job) -> None:
        began(job.args.i)

    client.task(Noop, queue=QUEUE)(noop)
    await client.start([{"name": QUEUE, "max_workers": batch, "claim_batch_size": batch}], poll_interval_ms=POLL_MS)
    await stop.wait()
    await client.shutdown()


if __name__ == "__main__":
    verbs.main(AwaSide(), work)
