"""The shapes: enqueue, claim + settle, and the same under a held snapshot."""

import asyncio
import time
import uuid
from statistics import median

from harness import (
    BULK,
    LOW,
    Connection,
    Cost,
    Lease,
    claim_settle,
    connect,
    enqueue,
    measure,
    reset,
    run,
    sql,
    trailing,
    want,
)

FULL_SCAN_S = 5.0
OUTSTANDING_MAX = 3_000


def mid(costs: list[Cost]) -> str:
    """The medians of several runs, as one table cell."""
    return (
        f"{median(c.per_s for c in costs):8,.0f}/s  "
        f"worker {median(c.worker_us for c in costs):5.1f} us  "
        f"machine {median(c.machine_us for c in costs):5.1f} us  "
        f"WAL {median(c.wal_bytes for c in costs):5.0f} B"
    )


async def drain(conn: Connection, shape: str, batch: int, leases: list[Lease]) -> int:
    """Claim and settle until nothing is left; the number of settled jobs."""
    statement, done = sql(shape, "claim_settle"), 0
    while leases:
        done += len(leases)
        leases = await claim_settle(conn, statement, leases, want(batch))
    return done


async def clean(dsn: str, shapes: str, jobs: int, runs: int, batches: list[int]) -> None:
    """Enqueue and drain, the shapes alternating."""
    bulk: dict[str, list[Cost]] = {}
    hot: dict[tuple[str, int], list[Cost]] = {}
    prune: list[Cost] = []
    for _ in range(runs):
        for batch in batches:
            for shape in shapes:
                conn = await connect(dsn)
                await reset(conn, shape)
                await conn.execute("CHECKPOINT")
                insert = sql(shape, "enqueue")
                await enqueue(conn, insert, BULK)

                async def fill(conn: Connection = conn, insert: str = insert) -> int:
                    for _ in range(jobs // BULK):
                        await enqueue(conn, insert, BULK)
                    return jobs

                bulk.setdefault(shape, []).append(await measure(conn, fill))
                hot_table = "ready" if shape == "c" else "job"
                await conn.execute(f"VACUUM ANALYZE goqueue.{hot_table}".encode())
                first: list[Lease] = []
                for _ in range(8):  # past the custom plans
                    first = await claim_settle(conn, sql(shape, "claim_settle"), first, want(batch))

                async def work(
                    conn: Connection = conn,
                    shape: str = shape,
                    batch: int = batch,
                    first: list[Lease] = first,
                ) -> int:
                    return await drain(conn, shape, batch, first)

                hot.setdefault((shape, batch), []).append(await measure(conn, work))
                if shape == "a":

                    async def pruned(conn: Connection = conn) -> int:
                        await conn.execute("DELETE FROM goqueue.job WHERE state >= 2")
                        await conn.execute("VACUUM goqueue.job")
                        return jobs

                    prune.append(await measure(conn, pruned))
                await conn.close()
    for shape in shapes:
        print(f"{shape} enqueue, bulk of {BULK}      {mid(bulk[shape])}")
        for batch in batches:
            print(f"{shape} claim + settle, batch {batch:3}   {mid(hot[shape, batch])}")
    if prune:
        print(f"a prune (delete, vacuum)      {mid(prune)}")


async def flow(
    dsn: str, shape: str, jobs: int, cap_s: float, *, hold: bool, trail_s: float | None, batch: int = 500
) -> None:
    """Jobs flow through with few outstanding; rates of the first and the last tenth, machine CPU per job of all."""
    admin = await connect(dsn)
    await reset(admin, shape)
    holder, producer, worker = [await connect(dsn) for _ in range(3)]
    if hold:
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await holder.execute("SELECT txid_current(), count(*) FROM pg_class")
    insert, statement = sql(shape, "enqueue"), sql(shape, "claim_settle")
    made, done, end = 0, 0, time.monotonic() + cap_s + 0.5  # measure looks at the idle machine first
    marks: list[tuple[float, int]] = []
    slowest_s = 0.0

    async def produce() -> None:
        nonlocal made
        while made < jobs and time.monotonic() < end:
            if made - done <= OUTSTANDING_MAX - BULK:
                await enqueue(producer, insert, BULK)
                made += BULK
            else:
                await asyncio.sleep(0.001)

    async def consume() -> None:
        nonlocal done, slowest_s
        leases: list[Lease] = []
        low, full = LOW, time.monotonic()
        while done < jobs and time.monotonic() < end:
            if trail_s is not None and time.monotonic() - full > FULL_SCAN_S:
                low, full = LOW, time.monotonic()
            settled, start = len(leases), time.monotonic()
            leases = await claim_settle(worker, statement, leases, want(batch, low))
            done += settled
            marks.append((time.monotonic(), done))
            slowest_s = max(slowest_s, marks[-1][0] - start)
            if not leases:
                await asyncio.sleep(0.001)
            elif trail_s is not None:
                last = max(leases, key=lambda lease: (lease.run_at, lease.id))
                low = trailing(last.run_at, trail_s)
                if trail_s == 0:
                    low = (last.run_at, uuid.UUID(bytes=last.id))

    async def both() -> int:
        await asyncio.gather(produce(), consume())
        return done

    cost = await measure(admin, both)
    size = await run(
        admin,
        "SELECT sum(pg_total_relation_size(oid))::int8 / 1048576 FROM pg_class "
        "WHERE relnamespace = 'goqueue'::regnamespace AND relkind = 'r'",
    )
    for conn in (holder, producer, worker, admin):
        await conn.close()

    def rate(low: float, high: float) -> float:
        part = [(t, n) for t, n in marks if low * done <= n <= high * done]
        return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])

    cursor = "no cursor" if trail_s is None else f"cursor trailing {trail_s:g} s"
    print(
        f"{shape} {'held' if hold else 'free'}, batch {batch:3}, {cursor:22} jobs {done:7,}  "
        f"first tenth {rate(0, 0.1):7,.0f}/s  last tenth {rate(0.9, 1):7,.0f}/s  "
        f"slowest claim {slowest_s * 1e3:5,.0f} ms  "
        f"machine {cost.machine_us:4.1f} µs/job  {size[0][0]} MiB",
        flush=True,
    )


async def held(dsn: str, shapes: str, jobs: int, cap_s: float, batches: list[int]) -> None:
    """Every shape, with and without the claim cursor, while a snapshot is held."""
    for batch in batches:
        for shape in shapes:
            for hold, trail_s in ((False, None), (True, None), (True, 0.1), (False, 0.1)):
                await flow(dsn, shape, jobs, cap_s, hold=hold, trail_s=trail_s, batch=batch)
