"""What the experiments share: SQL files, a filled schema, a worker's step, and the clocks."""

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pack
import uuid_utils
from psycopg import AsyncConnection
from psycopg.pq import Format
from psycopg.raw_cursor import AsyncRawCursor

Connection = AsyncConnection[tuple[object, ...]]

ARGS = '{"i": 12345, "kind": "email", "user": "user-00012345", "body": "lorem ipsum dolor sit amet"}'
WORKER = uuid.UUID(int=1)
LOW = (datetime(1970, 1, 1, tzinfo=UTC), uuid.UUID(int=0))
KEEP_DAYS = 7
ADD_WORKER = "INSERT INTO goqueue.worker VALUES ($1::uuid, now() + interval '1 day')"
BULK = 1_000
_HERE = Path(__file__).parent
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Lease:
    """One claimed job, as the engine would see it."""

    missed: list[int] | None
    id: bytes
    lane: int
    fence: int
    attempt: int
    max_attempts: int
    crashes: int
    max_crashes: int
    flags: int
    timeout_s: float | None
    run_at: datetime
    kind: str
    args: str
    tags: list[str] | None
    meta: str | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stretch of work cost, for each job."""

    per_s: float
    worker_us: float
    machine_us: float
    wal_bytes: float


def sql(shape: str, name: str) -> str:
    """The text of one statement file."""
    return (_HERE / shape / f"{name}.sql").read_text()


def machine_busy_s() -> float:
    """CPU seconds that all cores together were not idle since boot."""
    with Path("/proc/stat").open() as stat:
        ticks = [int(field) for field in stat.readline().split()[1:9]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * _TICK_S


async def connect(dsn: str, *, prepared: bool = True) -> Connection:
    """A connection as the store's hot path has it: autocommit, prepared, packed arrays, raw ids."""
    conn = await AsyncConnection.connect(dsn, autocommit=True, cursor_factory=AsyncRawCursor)
    conn.prepare_threshold = 0 if prepared else None
    pack.register(conn)
    bytea = conn.adapters.types["bytea"].oid
    loader = conn.adapters.get_loader(bytea, Format.BINARY)
    assert loader is not None
    conn.adapters.register_loader("uuid", loader)
    return cast("Connection", conn)


async def run(conn: Connection, statement: str, *params: object) -> list[tuple[object, ...]]:
    """One statement, binary rows."""
    cursor = conn.cursor(binary=True)
    await cursor.execute(statement.encode(), params or None)
    return await cursor.fetchall() if cursor.description else []


async def reset(conn: Connection, shape: str) -> None:
    """A fresh schema of one shape with one live worker."""
    await conn.execute(sql(shape, "schema").encode(), prepare=False)
    await run(conn, ADD_WORKER, WORKER)


async def enqueue(conn: Connection, statement: str, count: int) -> None:
    """One bulk insert of `count` jobs."""
    default = pack.texts(["default"] * count)
    null = pack.texts([None] * count)
    await run(
        conn,
        statement,
        pack.uuids([uuid_utils.uuid7().bytes for _ in range(count)]),
        default,
        default,
        pack.texts([""] * count),
        "{" + ",".join(["NULL"] * count) + "}",
        pack.int2s([5] * count),
        pack.texts(["send_email"] * count),
        pack.texts([ARGS] * count),
        pack.int4s([20] * count),
        pack.float8s([30.0] * count),
        null,
        null,
    )


def outcomes(leases: Sequence[Lease]) -> tuple[object, ...]:
    """The settle half of the parameters: everything completed without a result."""
    count = len(leases)
    return (
        pack.uuids([lease.id for lease in leases]),
        pack.int8s([lease.fence for lease in leases]),
        pack.int2s([2] * count),
        pack.float8s([0.0] * count),
        pack.texts([None] * count),
        KEEP_DAYS,
    )


def want(batch: int, low: tuple[datetime, uuid.UUID] = LOW, lanes: int = 1) -> tuple[object, ...]:
    """The claim half: `lanes` lanes, of which the last one has the jobs."""
    queues = [f"empty-{n}" for n in range(lanes - 1)] + ["default"]
    return (
        ["default"] * lanes,
        queues,
        pack.int2s([5] * lanes),
        [""] * lanes,
        [low[0]] * lanes,
        [low[1]] * lanes,
        pack.int4s([batch] * lanes),
        batch,
        WORKER,
    )


async def claim_settle(
    conn: Connection, statement: str, leases: Sequence[Lease], claim: tuple[object, ...]
) -> list[Lease]:
    """Settle `leases` and claim the next ones, in one statement."""
    rows = await run(conn, statement, *outcomes(leases), *claim)
    if rows[0][0] is not None:
        raise RuntimeError(f"not applied: {rows[0][0]}")
    return [Lease(*row) for row in rows if row[1] is not None]  # type: ignore[arg-type]  # by SQL


async def wal(conn: Connection) -> int:
    """Bytes of write-ahead log so far."""
    [(position,)] = await run(conn, "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8")
    return cast("int", position)


async def idle_rate() -> float:
    """CPU seconds that others use in a second; subtracted from what we measure."""
    start, busy = time.perf_counter(), machine_busy_s()
    await asyncio.sleep(0.4)
    return (machine_busy_s() - busy) / (time.perf_counter() - start)


async def measure(conn: Connection, work: Callable[[], Awaitable[int]]) -> Cost:
    """Run `work`, which says how many jobs it did."""
    idle = await idle_rate()
    wal_0, start = await wal(conn), time.perf_counter()
    cpu_0, busy_0 = time.process_time(), machine_busy_s()
    jobs = await work()
    elapsed = time.perf_counter() - start
    return Cost(
        per_s=jobs / elapsed,
        worker_us=(time.process_time() - cpu_0) / jobs * 1e6,
        machine_us=(machine_busy_s() - busy_0 - idle * elapsed) / jobs * 1e6,
        wal_bytes=(await wal(conn) - wal_0) / jobs,
    )


def trailing(run_at: datetime, trail_s: float) -> tuple[datetime, uuid.UUID]:
    """A low-water mark that trails the last claimed row."""
    return run_at - timedelta(seconds=trail_s), uuid.UUID(int=0)
