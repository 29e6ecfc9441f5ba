"""The limit for `http`: a bare ASGI application that gathers requests into one INSERT, and does nothing else.

No framework, no fences, keys, wake-ups or error documents; asyncpg; each request is answered after its commit. It runs
under uvicorn in the peers' environment. `POST /v1/jobs` takes the body that GoQueue takes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import asyncpg
import msgspec

CONNECTIONS = 2
"""Batches under way at a time: while one commits, the next gathers."""
BATCH_MAX = 256
DDL = """
CREATE TABLE IF NOT EXISTS bare_job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL, kind text NOT NULL, args json NOT NULL, priority smallint NOT NULL,
    state smallint NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS bare_job_ready ON bare_job (queue, priority, run_at, id) WHERE state = 0
"""
INSERT = """
INSERT INTO bare_job (queue, kind, args, priority)
SELECT * FROM unnest($1::text[], $2::text[], $3::json[], $4::int2[]) RETURNING id
"""

Message = MutableMapping[str, Any]  # Any: so does the ASGI specification


class JobIn(msgspec.Struct):
    """What a request says."""

    kind: str
    args: msgspec.Raw
    queue: str = "default"
    priority: int = 5


class JobOut(msgspec.Struct):
    """What its answer says."""

    id: int
    kind: str
    state: str = "ready"


_decode = msgspec.json.Decoder(JobIn).decode
_encode = msgspec.json.Encoder().encode


class Gatherer:
    """Writes what has come in while the last batches were on their way."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool | None = None
        self._waiting: list[tuple[JobIn, asyncio.Future[int]]] = []
        self._writers: set[asyncio.Task[None]] = set()

    async def open(self, url: str) -> None:
        """Connect and make the table."""
        self._pool = await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=_keep)
        await self._pool.execute(DDL)

    async def insert(self, job: JobIn) -> int:
        """The id of a job, after its commit."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if len(self._writers) < CONNECTIONS:
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await answer

    async def _write(self) -> None:
        assert self._pool is not None
        await asyncio.sleep(0)  # one turn of the loop: what came with this request goes with it
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            jobs = [job for job, _ in batch]
            columns = (
                [job.queue for job in jobs],
                [job.kind for job in jobs],
                [bytes(job.args).decode() for job in jobs],
                [job.priority for job in jobs],
            )
            try:
                rows = await self._pool.fetch(INSERT, *columns)
            except Exception as error:  # each of the batch is told
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            for (_, answer), row in zip(batch, rows, strict=True):
                answer.set_result(row[0])


async def _keep(connection: object) -> None:
    """Give a connection back as it is: asyncpg's own reset costs a trip."""


_gatherer = Gatherer()


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The application."""
    if scope["type"] == "lifespan":
        await receive()
        await _gatherer.open(os.environ["BENCH_URL"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    job = _decode(body)
    answer = _encode(JobOut(await _gatherer.insert(job), job.kind))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
