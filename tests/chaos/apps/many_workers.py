"""Many workers in one process, each with a store of its own: ``python many_workers.py COUNT URL POOL_MAX``.

Ends with SIGTERM. For counts that no machine holds as processes.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from goqueue.configuration import configuration
from goqueue.engine.worker import Worker
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from tests.chaos.apps.chaos_app import app


async def run_one(url: str, pool_max: int, stop: asyncio.Event) -> None:
    store = PostgresStore(url, settings=StoreSettings(pool_max=pool_max, connect_timeout_s=30, statement_timeout_s=30))
    await store.open()
    try:
        worker = Worker(app, store, configuration().worker)
        running = asyncio.create_task(worker.run())
        await stop.wait()
        worker.stop()
        await running
    finally:
        await store.close()


async def main(count: int, url: str, pool_max: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(run_one(url, pool_max, stop))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
