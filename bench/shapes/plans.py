"""Plans that do not depend on statistics, many lanes, and small changes to shape B."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from drivers import NO_SEQSCAN
from harness import (
    ADD_WORKER,
    BULK,
    LOW,
    WORKER,
    Connection,
    Cost,
    Lease,
    claim_settle,
    connect,
    enqueue,
    measure,
    outcomes,
    reset,
    run,
    sql,
    want,
)
from shapes import mid

LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Stale:
    """A table that statistics describe wrongly, and a cure."""

    name: str
    rows: int = 0
    vacuumed: bool = True
    extended: bool = False
    guarded: bool = False
    prepared: bool = True


CASES = (
    Stale("never analysed", vacuumed=False),
    Stale("vacuumed empty"),
    Stale("vacuumed empty, set_config", guarded=True),
    Stale("vacuumed empty, extended once", extended=True),
    Stale("vacuumed empty, unprepared", prepared=False),
    Stale("vacuumed at 60 rows", rows=60),
    Stale("vacuumed at 60 rows, set_config", rows=60, guarded=True),
    Stale("vacuumed at 60 rows, extended once", rows=60, extended=True),
)


async def step(conn: Connection, leases: list[Lease], claim: tuple[object, ...], *, guarded: bool) -> list[Lease]:
    """One round trip, with or without the guard before it in the pipeline."""
    if not guarded:
        return await claim_settle(conn, sql("b", "claim_settle"), leases, claim)
    async with conn.pipeline():
        await conn.cursor(binary=True).execute(NO_SEQSCAN.encode())
        cursor = conn.cursor(binary=True)
        await cursor.execute(sql("b", "claim_settle").encode(), outcomes(leases) + claim)
    rows = await cursor.fetchall()
    return [Lease(*row) for row in rows if row[1] is not None]  # type: ignore[arg-type]  # by SQL


async def stale(dsn: str, jobs: int = 20_000) -> None:
    """Make the generic plan on a table that is nearly empty, then fill it and drain it."""
    insert = sql("b", "enqueue")
    for case in CASES:
        admin = await connect(dsn)
        await reset(admin, "b")
        await run(admin, "ALTER TABLE goqueue.job SET (autovacuum_enabled = off, vacuum_truncate = off)")
        if case.extended:
            await enqueue(admin, insert, 2 * BULK)
            await run(admin, "DELETE FROM goqueue.job")
        if case.vacuumed:
            await run(admin, "VACUUM ANALYZE goqueue.job")
        if case.rows:
            await enqueue(admin, insert, case.rows)
            await run(admin, "VACUUM ANALYZE goqueue.job")
        worker = await connect(dsn, prepared=case.prepared)
        leases: list[Lease] = []
        for _ in range(8):
            leases = await step(worker, leases, want(1), guarded=case.guarded)
        for _ in range(jobs // BULK):
            await enqueue(admin, insert, BULK)
        done, start = 0, time.perf_counter()
        while leases or not done:
            leases = await step(worker, leases, want(500), guarded=case.guarded)
            done += len(leases)
            if time.perf_counter() - start > LIMIT_S:
                break
        print(f"{case.name:36} {done / (time.perf_counter() - start):8,.0f} jobs/s", flush=True)
        await asyncio.gather(worker.close(), admin.close())
    await lanes(dsn)


async def lanes(dsn: str, rounds: int = 15) -> None:
    """The time of one claim of 500 when all lanes but the last are empty."""
    conn = await connect(dsn)
    await reset(conn, "b")
    for _ in range(60):
        await enqueue(conn, sql("b", "enqueue"), BULK)
    await run(conn, "VACUUM ANALYZE goqueue.job")
    for count in (1, 100, 1_000, 10_000):
        spent, leases = [], list[Lease]()
        for _ in range(rounds):
            claim = want(500, LOW, count)
            start = time.perf_counter()
            leases = await step(conn, leases, claim, guarded=False)
            spent.append(time.perf_counter() - start)
        print(f"claim + settle of 500 over {count:6,} lanes  {median(spent[8:]) * 1e3:7.1f} ms")
    await conn.close()


def _args_as(kind: str) -> Callable[[str], str]:
    cast = "convert_to(n.args, 'UTF8')" if kind == "bytea" else f"n.args::{kind}"
    out = "j.args" if kind == "bytea" else "j.args::text"

    def change(text: str) -> str:
        for old, new in (
            ("args json", f"args {kind}"),
            ("n.args::json", cast),
            ("j.args::text", out),
        ):
            text = text.replace(old, new)
        return text

    return change


def _same(text: str) -> str:
    return text


TWEAKS: dict[str, Callable[[str], str]] = {
    "as it is": _same,
    "FOR NO KEY UPDATE": lambda text: text.replace("FOR UPDATE", "FOR NO KEY UPDATE"),
    "no lock in settle": lambda text: text.replace(
        "j.state + 0 = 1\n        FOR UPDATE SKIP LOCKED", "j.state + 0 = 1 OFFSET 0"
    ),
    "args jsonb": _args_as("jsonb"),
    "args text": _args_as("text"),
    "args bytea": _args_as("bytea"),
    "fillfactor 70": lambda text: text.replace("    key bytea\n);", "    key bytea\n) WITH (fillfactor = 70);"),
    "no running index": lambda text: text.replace("CREATE INDEX job_running", "-- "),
}


async def tweaks(dsn: str, jobs: int, runs: int, batch: int = 500) -> None:
    """Shape B with one thing changed, alternating."""
    costs: dict[str, list[Cost]] = {}
    fills: dict[str, list[Cost]] = {}
    for _ in range(runs):
        for name, change in TWEAKS.items():
            conn = await connect(dsn)
            await conn.execute(change(sql("b", "schema")).encode(), prepare=False)
            await run(conn, ADD_WORKER, WORKER)
            insert, both = change(sql("b", "enqueue")), change(sql("b", "claim_settle"))
            await enqueue(conn, insert, BULK)

            async def fill(conn: Connection = conn, insert: str = insert) -> int:
                for _ in range(jobs // BULK):
                    await enqueue(conn, insert, BULK)
                return jobs

            fills.setdefault(name, []).append(await measure(conn, fill))
            await run(conn, "VACUUM ANALYZE goqueue.job")
            leases: list[Lease] = []
            for _ in range(8):
                leases = await claim_settle(conn, both, leases, want(batch))

            async def work(conn: Connection = conn, both: str = both, leases: list[Lease] = leases) -> int:
                done = 0
                while leases:
                    done += len(leases)
                    leases = await claim_settle(conn, both, leases, want(batch))
                return done

            costs.setdefault(name, []).append(await measure(conn, work))
            await conn.close()
    for name in TWEAKS:
        print(f"{name:20} enqueue {mid(fills[name])}")
        print(f"{'':20} hot     {mid(costs[name])}", flush=True)
