"""Handlers in processes that complete their jobs in transactions of their own: importable, as those must be."""

from __future__ import annotations

import time

import psycopg

from goqueue import Context, GoQueue, RetryPolicy

app = GoQueue(retry=RetryPolicy.fixed(0.01))


@app.task(run_in="process")
def plain(ctx: Context[None], url: str, commit: bool) -> str:
    with psycopg.connect(url) as conn:
        conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
        ctx.complete_in(conn, "in it")
        if not commit and ctx.attempt == 1:
            conn.rollback()
    return "not looked at"


@app.task(run_in="process")
async def awaited(ctx: Context[None], url: str, commit: bool) -> str:
    async with await psycopg.AsyncConnection.connect(url) as conn:
        await conn.execute("INSERT INTO effect VALUES (%s, %s)", [ctx.job_id, ctx.attempt])
        await ctx.complete_in(conn, "in it")
        if not commit and ctx.attempt == 1:
            await conn.rollback()
    return "not looked at"


@app.task(run_in="process")
def talks(ctx: Context[None], url: str, early: bool) -> None:
    for n in range(3):
        ctx.log(str(n))
        ctx.progress(n + 1)
        if early and n == 1:
            time.sleep(0.5)  # some beats go by
    with psycopg.connect(url) as conn:
        ctx.complete_in(conn)
