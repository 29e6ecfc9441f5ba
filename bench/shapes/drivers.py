"""The driver: psycopg and asyncpg on shape B's hot path, and the cheapest way in and out."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

import asyncpg  # type: ignore[import-untyped]  # it has no annotations
import pack
import psycopg.rows
import psycopg.types.uuid
import uuid_utils
from harness import (
    ARGS,
    BULK,
    KEEP_DAYS,
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
from psycopg.raw_cursor import AsyncRawCursor
from shapes import mid

Step = Callable[[Sequence[Lease]], Awaitable[list[Lease]]]
NO_SEQSCAN = "SELECT set_config('enable_seqscan', 'off', true)"
INSERT_ONE = """INSERT INTO goqueue.job (
    id, tenant, queue, group_key, run_at, priority, kind, args, max_attempts, timeout_s, tags, meta)
VALUES ($1::uuid, $2::text, $3::text, $4::text,
    clock_timestamp() + make_interval(secs => coalesce($5::float8, 0)), $6::int2, $7::text,
    $8::text::json, $9::int4, $10::float8, $11::text::text[], $12::text::json)"""


def leases_of(rows: Sequence[tuple[object, ...]]) -> list[Lease]:
    """Rows of claim.sql, which have no `missed`."""
    return [Lease(None, *row) for row in rows]  # type: ignore[arg-type]  # by SQL


def lists(leases: Sequence[Lease]) -> tuple[object, ...]:
    """The settle half as Python lists."""
    count = len(leases)
    return (
        [lease.id for lease in leases],
        [lease.fence for lease in leases],
        [2] * count,
        [0.0] * count,
        [None] * count,
        KEEP_DAYS,
    )


async def by_asyncpg(dsn: str, batch: int) -> tuple[Step, Callable[[], Awaitable[None]]]:
    """asyncpg, one statement."""
    conn = await asyncpg.connect(dsn)
    statement = await conn.prepare(sql("b", "claim_settle"))
    claim = (["default"], ["default"], [5], [""], [LOW[0]], [LOW[1]], [batch], batch, WORKER)

    async def step(leases: Sequence[Lease]) -> list[Lease]:
        rows = await statement.fetch(*lists(leases), *claim)
        return [Lease(*row) for row in rows if row[1] is not None]

    return step, conn.close


async def by_psycopg(dsn: str, batch: int, way: str) -> tuple[Step, Callable[[], Awaitable[None]]]:
    """psycopg in one of its ways."""
    conn = await connect(dsn, prepared=way != "one, unprepared")
    if way == "one, lists":  # ids as uuid.UUID, which the list dumper knows
        conn.adapters.register_loader("uuid", psycopg.types.uuid.UUIDBinaryLoader)
    both, settle, claim = (sql("b", name) for name in ("claim_settle", "settle", "claim"))
    wanted = want(batch)

    async def one(leases: Sequence[Lease]) -> list[Lease]:
        return await claim_settle(conn, both, leases, wanted)

    async def one_lists(leases: Sequence[Lease]) -> list[Lease]:
        rows = await run(conn, both, *lists(leases), *wanted)
        return [Lease(*row) for row in rows if row[1] is not None]  # type: ignore[arg-type]  # SQL

    async def one_guarded(leases: Sequence[Lease]) -> list[Lease]:
        async with conn.pipeline():
            await conn.cursor(binary=True).execute(NO_SEQSCAN.encode())
            cursor = conn.cursor(binary=True)
            await cursor.execute(both.encode(), outcomes(leases) + wanted)
        rows = await cursor.fetchall()
        return [Lease(*row) for row in rows if row[1] is not None]  # type: ignore[arg-type]  # SQL

    async def pipeline(leases: Sequence[Lease]) -> list[Lease]:
        async with conn.pipeline():
            cursor = conn.cursor(binary=True)
            settled = conn.cursor(binary=True)
            await settled.execute(settle.encode(), outcomes(leases))
            await cursor.execute(claim.encode(), wanted)
        await settled.fetchall()
        return leases_of(await cursor.fetchall())

    async def two(leases: Sequence[Lease]) -> list[Lease]:
        await run(conn, settle, *outcomes(leases))
        return leases_of(await run(conn, claim, *wanted))

    ways: dict[str, Step] = {
        "one, lists": one_lists,
        "one + set_config": one_guarded,
        "two in a pipeline": pipeline,
        "two awaits": two,
    }
    return ways.get(way, one), conn.close


WAYS = (
    "one, packed",
    "one, lists",
    "one, unprepared",
    "one + set_config",
    "two in a pipeline",
    "two awaits",
)


async def compare(dsn: str, jobs: int, runs: int, batches: list[int]) -> None:
    """Claim + settle by every way, alternating; then enqueue."""
    for batch in batches:
        costs: dict[str, list[Cost]] = {}
        for _ in range(runs):
            for way in ("asyncpg, one", *WAYS):
                admin = await connect(dsn)
                await reset(admin, "b")
                for _ in range(jobs // BULK):
                    await enqueue(admin, sql("b", "enqueue"), BULK)
                await admin.execute("VACUUM ANALYZE goqueue.job")
                if way == "asyncpg, one":
                    step, close = await by_asyncpg(dsn, batch)
                else:
                    step, close = await by_psycopg(dsn, batch, way)
                leases: list[Lease] = []
                for _ in range(8):
                    leases = await step(leases)

                async def work(step: Step = step, leases: list[Lease] = leases) -> int:
                    done = 0
                    while leases:
                        done += len(leases)
                        leases = await step(leases)
                    return done

                costs.setdefault(way, []).append(await measure(admin, work))
                await close()
                await admin.close()
        for way, cost in costs.items():
            print(f"batch {batch:3}  {way:20} {mid(cost)}", flush=True)
    await _enqueue(dsn, runs)


async def _enqueue(dsn: str, runs: int, single: int = 1_500) -> None:
    admin = await connect(dsn)
    await reset(admin, "b")
    bulk = sql("b", "enqueue")
    theirs = await asyncpg.connect(dsn)
    one_theirs, bulk_theirs = await theirs.prepare(INSERT_ONE), await theirs.prepare(bulk)

    def row() -> tuple[object, ...]:
        return (
            *(uuid_utils.uuid7().hex, "default", "default", "", None, 5, "send_email", ARGS, 20),
            *(30.0, None, None),
        )

    def columns() -> list[list[object]]:
        return [list(column) for column in zip(*[row() for _ in range(BULK)], strict=True)]

    async def copy() -> None:
        names = "id, tenant, queue, group_key, priority, kind, args, max_attempts, timeout_s"
        lines = [f"{uuid_utils.uuid7()}\tdefault\tdefault\t\t5\tsend_email\t{ARGS}\t20\t30\n" for _ in range(BULK)]
        async with (
            admin.cursor() as cursor,
            cursor.copy(f"COPY goqueue.job ({names}) FROM STDIN".encode()) as sink,
        ):
            await sink.write("".join(lines))

    ways: dict[str, tuple[int, Callable[[], Awaitable[object]]]] = {
        "1 by 1, psycopg": (1, lambda: run(admin, INSERT_ONE, *row())),
        "1 by 1, asyncpg": (1, lambda: one_theirs.fetch(*row())),
        "bulk, psycopg packed": (BULK, lambda: enqueue(admin, bulk, BULK)),
        "bulk, psycopg lists": (BULK, lambda: run(admin, bulk, *columns())),
        "bulk, asyncpg": (BULK, lambda: bulk_theirs.fetch(*columns())),
        "bulk, psycopg COPY": (BULK, copy),
    }
    costs: dict[str, list[Cost]] = {}
    for _ in range(runs):
        for name, (size, call) in ways.items():
            await run(admin, "TRUNCATE goqueue.job")
            times = single if size == 1 else 20
            for _ in range(3):
                await call()

            async def work(call: Callable[[], Awaitable[object]] = call, times: int = times, size: int = size) -> int:
                for _ in range(times):
                    await call()
                return times * size

            costs.setdefault(name, []).append(await measure(admin, work))
    for name, cost in costs.items():
        print(f"enqueue  {name:22} {mid(cost)}", flush=True)
    await theirs.close()
    await admin.close()


async def _client_us(calls: dict[str, Callable[[], Awaitable[object]]], rows: int) -> None:
    """Client CPU of each call, alternating, for each row."""
    spent: dict[str, list[float]] = {}
    for _ in range(7):
        for name, call in calls.items():
            await call()
            start = time.process_time()
            for _ in range(20):
                await call()
            spent.setdefault(name, []).append((time.process_time() - start) / 20 / rows * 1e6)
    for name, values in spent.items():
        print(f"{name:44} {median(values):5.2f} us a row (client CPU)", flush=True)


def literal(values: Sequence[object]) -> str:
    """An array literal, for values that need no quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def quoted(values: Sequence[str | None]) -> str:
    """An array literal of strings."""
    parts = ["NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values]
    return "{" + ",".join(parts) + "}"


async def values(dsn: str, rows: int = 500) -> None:
    """Ways to pass 500 outcomes in, and to fetch 500 leases out."""
    admin = await connect(dsn)
    await reset(admin, "b")
    await enqueue(admin, sql("b", "enqueue"), BULK)
    theirs = await asyncpg.connect(dsn)
    query = "SELECT count(*) FROM unnest($1::uuid[], $2::int8[], $3::int2[], $4::float8[], $5::text[])"
    ids = [uuid.UUID(bytes=uuid_utils.uuid7().bytes) for _ in range(rows)]
    raw, hexes = [i.bytes for i in ids], [i.hex for i in ids]
    fences, states, delays = list(range(rows)), [2] * rows, [0.0] * rows
    prepared = await theirs.prepare(query)
    calls: dict[str, Callable[[], Awaitable[object]]] = {}
    nulls: list[str | None] = [None] * rows
    texts: list[str | None] = [f'{{"error": "e{n}"}}' for n in range(rows)]
    for name, bodies in {"null": nulls, "text": texts}.items():

        async def packed(bodies: list[str | None] = bodies) -> None:
            await run(
                admin,
                query,
                pack.uuids(raw),
                pack.int8s(fences),
                pack.int2s(states),
                pack.float8s(delays),
                pack.texts(bodies),
            )

        async def literals(bodies: list[str | None] = bodies) -> None:
            numbers = (literal(fences), literal(states), literal(delays))
            await run(admin, query, literal(hexes), *numbers, quoted(bodies))

        async def plain(bodies: list[str | None] = bodies) -> None:
            await run(admin, query, ids, fences, states, delays, bodies)

        async def asyncpg_lists(bodies: list[str | None] = bodies) -> None:
            await prepared.fetch(ids, fences, states, delays, bodies)

        calls |= {
            f"in: packed binary, bodies {name}": packed,
            f"in: array literals, bodies {name}": literals,
            f"in: python lists, bodies {name}": plain,
            f"in: asyncpg lists, bodies {name}": asyncpg_lists,
        }
    await _client_us(calls, rows)

    uuids = await connect(dsn)
    uuids.adapters.register_loader("uuid", psycopg.types.uuid.UUIDBinaryLoader)
    columns = (
        "id, 1::int4 AS lane, fence, attempt, max_attempts, crashes, max_crashes, flags, "
        "timeout_s, run_at, kind, args::text, tags, meta::text"
    )
    parsed = columns.replace("::text", "")
    epoch = columns.replace("run_at", "extract(epoch FROM run_at)::float8 AS run_at")
    few = "id, 1::int4 AS lane, fence, attempt, max_attempts, crashes, timeout_s, kind, args::text"

    def rows_by(
        conn: Connection,
        names: str,
        *,
        binary: bool = True,
        factory: psycopg.rows.AsyncRowFactory[object] = psycopg.rows.tuple_row,
        lease: bool = False,
    ) -> Callable[[], Awaitable[object]]:
        text = f"SELECT {names} FROM goqueue.job LIMIT {rows}".encode()  # noqa: S608  # our names

        async def call() -> object:
            cursor = AsyncRawCursor(conn, row_factory=factory)
            await cursor.execute(text, binary=binary)
            fetched = await cursor.fetchall()
            return leases_of(fetched) if lease else fetched  # type: ignore[arg-type]  # tuples

        return call

    records = await theirs.prepare(f"SELECT {parsed} FROM goqueue.job LIMIT {rows}")  # noqa: S608
    await _client_us(
        {
            "out: 14 columns, text, args parsed": rows_by(uuids, parsed, binary=False),
            "out: 14 columns, binary, args parsed": rows_by(uuids, parsed),
            "out: 14 columns, text, args::text": rows_by(uuids, columns, binary=False),
            "out: 14 columns, binary, args::text": rows_by(uuids, columns),
            "out: … and raw ids": rows_by(admin, columns),
            "out: … and run_at as float8": rows_by(admin, epoch),
            "out: … only 9 columns": rows_by(admin, few),
            "out: raw ids, slots dataclass": rows_by(admin, columns, lease=True),
            "out: raw ids, namedtuple_row": rows_by(admin, columns, factory=psycopg.rows.namedtuple_row),
            "out: raw ids, dict_row": rows_by(admin, columns, factory=psycopg.rows.dict_row),
            "out: asyncpg records": lambda: records.fetch(),
        },
        rows,
    )
    await asyncio.gather(theirs.close(), uuids.close(), admin.close())
