"""GoQueue: one application with one task, enqueued through `AsyncClient`, worked on by `goqueue worker`."""

from __future__ import annotations

from bench.sides import verbs
from bench.stamps import began
from goqueue import AsyncClient, GoQueue, NewJob
from goqueue.wiring import migrate

app = GoQueue()


@app.task
async def noop(i: int, to: str, user: str, body: str) -> None:  # noqa: ARG001  decoded and checked, as users have it
    """Note that it began."""
    began(i)


class GoQueueSide:
    """See `bench.sides.verbs.Side`."""

    takes_any_number = True

    def __init__(self) -> None:
        self._client: AsyncClient | None = None

    async def install(self, url: str) -> None:
        """Migrate."""
        await migrate(url)

    async def open(self, url: str, callers: int) -> None:  # noqa: ARG002  one client serves them all
        """Make the client; it connects with its first job."""
        self._client = AsyncClient(app, url)

    async def enqueue_one(self, i: int) -> None:
        """One job, one call."""
        assert self._client is not None
        await self._client.enqueue(self.job(i))

    async def enqueue_many(self, numbers: range) -> None:
        """One call for all, which takes them one by one."""
        assert self._client is not None
        await self._client.enqueue_many(map(self.job, numbers))

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.close()

    def job(self, i: int) -> NewJob[None]:
        """Job ``i``."""
        given = verbs.Arguments.of(i)
        return noop.job(i=given.i, to=given.to, user=given.user, body=given.body)


if __name__ == "__main__":
    verbs.main(GoQueueSide())
