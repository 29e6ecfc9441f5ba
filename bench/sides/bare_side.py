"""The bare loop: what a lean design can reach. It claims, decodes, calls a handler in a task, and settles.

No fences, beats, retries, limits or history table: a bound for a system, no system.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from bench.sides import bare, verbs
from bench.stamps import began

ONE = """
WITH put AS (INSERT INTO bare_job (kind, args) VALUES ('noop', $1) RETURNING id)
SELECT id, pg_notify('bare_job', '') FROM put
"""
MANY = "INSERT INTO bare_job (kind, args) SELECT 'noop', args FROM unnest($1::jsonb[]) AS args RETURNING id"
RUNNING_MAX = 1_000
POLL_S = 1.0


class BareSide(bare.BareTable):
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    async def enqueue_one(self, i: int) -> None:
        """One job, one statement, which also wakes the worker."""
        await self.pool.fetchval(ONE, _encoded(i))

    async def enqueue_many(self, numbers: range) -> None:
        """One statement for all."""
        await self.pool.fetch(MANY, [_encoded(i) for i in numbers])


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _encoded(i: int) -> str:
    return _encode(verbs.Arguments.of(i)).decode()


async def _noop(i: int, to: str, user: str, body: str) -> None:  # noqa: ARG001  decoded, as users have it
    began(i)


HANDLERS: dict[str, Callable[..., Awaitable[None]]] = {"noop": _noop}


async def work(url: str, batch: int) -> None:
    """One worker process, until SIGTERM."""
    stop = verbs.told_to_stop()
    woken = asyncio.Event()
    listener = await asyncpg.connect(url)
    await listener.add_listener(bare.CHANNEL, lambda *_: woken.set())
    turn = await (await asyncpg.connect(url)).prepare(bare.TURN)
    running: set[asyncio.Task[None]] = set()
    done: list[int] = []

    async def handle(row: asyncpg.Record) -> None:
        await HANDLERS[row["kind"]](**_decode(row["args"]))
        done.append(row["id"])
        woken.set()

    while not stop.is_set():
        woken.clear()
        settled, done = done, []
        rows = await turn.fetch(str(os.getpid()), max(0, min(batch, RUNNING_MAX - len(running))), settled)
        for row in rows:
            task = asyncio.create_task(handle(row))
            running.add(task)
            task.add_done_callback(running.discard)
        if rows or done:
            await asyncio.sleep(0)
        else:
            await _wait(woken)


async def _wait(woken: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL_S):
            await woken.wait()
    except TimeoutError:
        pass


if __name__ == "__main__":
    verbs.main(BareSide(), work)
