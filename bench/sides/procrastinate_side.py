"""Procrastinate, as its documentation has it: psycopg, LISTEN, done jobs kept (its default)."""

from __future__ import annotations

import logging

from procrastinate import App, PsycopgConnector
from procrastinate.tasks import Task

from bench.sides import verbs
from bench.stamps import began

SPARE_CONNECTIONS = 4
STOP_S = 2.0


class ProcrastinateSide:
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    def __init__(self) -> None:
        self._app: App | None = None
        self._task: Task | None = None

    async def install(self, url: str) -> None:
        """Apply its schema."""
        app, _ = _made(url, 1)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self, url: str, callers: int) -> None:
        """Open a pool for that many callers."""
        self._app, self._task = _made(url, callers)
        await self._app.open_async()

    async def enqueue_one(self, i: int) -> None:
        """One job, one call."""
        assert self._task is not None
        await self._task.defer_async(**vars(verbs.Arguments.of(i)))

    async def enqueue_many(self, numbers: range) -> None:
        """One call for all."""
        assert self._task is not None
        await self._task.batch_defer_async(*[vars(verbs.Arguments.of(i)) for i in numbers])

    async def close(self) -> None:
        """Disconnect."""
        if self._app is not None:
            await self._app.close_async()


def _made(url: str, connections: int) -> tuple[App, Task]:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=min(4, connections), max_size=connections))

    async def noop(i: int, to: str, user: str, body: str) -> None:  # noqa: ARG001  decoded, as users have it
        began(i)

    return app, app.task(name="noop", queue="default")(noop)


async def work(url: str, concurrency: int) -> None:
    """One worker process, until SIGTERM."""
    logging.disable(logging.INFO)
    app, _ = _made(url, concurrency + SPARE_CONNECTIONS)
    async with app.open_async():
        await app.run_worker_async(
            concurrency=concurrency, install_signal_handlers=True, shutdown_graceful_timeout=STOP_S
        )


if __name__ == "__main__":
    verbs.main(ProcrastinateSide(), work)
