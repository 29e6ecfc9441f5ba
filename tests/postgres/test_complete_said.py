"""What a handler has said, and no beat has brought to the store, goes with `ctx.complete_in`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest

from goqueue import Context, GoQueue, RetryPolicy
from tests.postgres import complete_app
from tests.support.completing import Place, a_place


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with a_place(database_url) as here:
        yield here


@pytest.fixture
def app() -> GoQueue:
    return GoQueue(retry=RetryPolicy.fixed(0.01))


async def test_what_it_has_said_goes_with_it(place: Place, app: GoQueue) -> None:
    """Once: what a beat has brought is not added again, and the retry's lines come after those of the first attempt."""

    @app.task
    async def act(ctx: Context[None]) -> None:
        ctx.log("first")
        ctx.progress(1)
        await asyncio.sleep(0.5 if ctx.attempt == 1 else 0)  # some beats go by
        ctx.log("second", "warning")
        ctx.progress({"at": 2})
        async with await psycopg.AsyncConnection.connect(place.url) as conn:
            await ctx.complete_in(conn)
            if ctx.attempt == 1:
                await conn.rollback()

    async with place.working(app):
        record = await place.final(await place.enqueue(act.job()))
    lines = [(line.attempt, line.level, line.message) for line in record.logs]
    assert lines == [(n, *line) for n in (1, 2) for line in (("info", "first"), ("warning", "second"))]
    assert record.logs == tuple(sorted(record.logs, key=lambda line: line.at))
    assert record.progress is not None
    assert msgspec.json.decode(record.progress) == {"at": 2}


@pytest.mark.parametrize("early", [False, True])
async def test_what_a_handler_in_a_process_has_said_goes_with_it(place: Place, early: bool) -> None:
    async with place.working(complete_app.app, app_ref="tests.postgres.complete_app:app"):
        for _ in range(2):  # what the first has said, the second has not
            record = await place.final(await place.enqueue(complete_app.talks.job(place.url, early)))
            assert [line.message for line in record.logs] == ["0", "1", "2"]
            assert record.progress is not None
            assert msgspec.json.decode(record.progress) == 3
