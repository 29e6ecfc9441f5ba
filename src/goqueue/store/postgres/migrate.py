"""Migrations: numbered files, each applied once, under one advisory lock, and never again changed.

They come in two phases: what is added first must work with the last release's code; what is taken away goes later.

A migration whose first line is ``-- concurrently: NAME`` makes the index NAME by CREATE INDEX CONCURRENTLY, outside a
transaction, so that a big table in use is not blocked. It may be cut off anywhere: what is left of an index that was
not finished is dropped by the next run, and one that is there is not made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from typing import TYPE_CHECKING, Any, Final

import structlog
from psycopg import errors as pg
from psycopg import sql

from goqueue.model.admin import SchemaStatus
from goqueue.model.errors import SchemaError, SchemaMissing, SchemaOutdated, SchemaTooNew, StoreUnavailable
from goqueue.store.postgres.sql import migration_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from psycopg import AsyncConnection

MIGRATIONS: Final = migration_files()
TARGET: Final = MIGRATIONS[-1][0]

LOCK_TRIES: Final = 100
"""Of one migration. Each waits for its tables no longer than ``lock_timeout_s``: whoever comes after it waits, too."""
PAUSE_MAX_S: Final = 1.0
"""Longest pause between two tries, a random part of which is waited."""

_LOCK: Final = "SELECT pg_catalog.pg_advisory_xact_lock(7237115646297)"
_TRY_INDEX_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_xact_lock(7237115646298)"
_CONCURRENTLY: Final = re.compile(r"-- concurrently: (\w+)\n")
_NOTE: Final = """
INSERT INTO goqueue.schema_migration (version, name, checksum) VALUES ($1, $2, $3) ON CONFLICT (version) DO NOTHING
"""
_INDEX_IS_VALID: Final = """
SELECT i.indisvalid FROM pg_catalog.pg_index AS i WHERE i.indexrelid = pg_catalog.to_regclass($1::text)
"""
log = structlog.get_logger("goqueue.store")

_BASE: Final = """
CREATE SCHEMA IF NOT EXISTS goqueue;
CREATE TABLE IF NOT EXISTS goqueue.schema_migration (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schema_migration_pkey PRIMARY KEY (version)
);
"""


def checksum(text: str) -> str:
    """Return what identifies a migration's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def script() -> str:
    """Return all migrations as one SQL script for a database without them, in one transaction.

    For those who apply them with tools of their own. In an empty table an index need not be made concurrently.
    """
    parts = ["BEGIN;", _LOCK + ";", _BASE.strip()]
    for version, name, text in MIGRATIONS:
        row = f"VALUES ({version}, '{name}', '{checksum(text)}')"
        note = f"INSERT INTO goqueue.schema_migration (version, name, checksum) {row};"
        parts += [f"-- {name}", _in_a_transaction(text).strip(), note]
    return "\n\n".join([*parts, "COMMIT;", ""])


def check(version: int) -> None:
    """Raise unless a database at this version fits this program."""
    if version > TARGET:
        raise SchemaTooNew(
            f"the database has schema {version}, this GoQueue knows {TARGET}: upgrade this process before it may work"
        )
    if version == 0:
        raise SchemaMissing("the database has no GoQueue schema: run `goqueue db migrate`")
    if version < TARGET:
        raise SchemaOutdated(
            f"the database has schema {version}, this GoQueue needs {TARGET}: run `goqueue db migrate`"
        )


async def status(connection: AsyncConnection[Any]) -> SchemaStatus:
    """Tell which migrations are applied; a checksum that differs raises `SchemaError`."""
    cursor = await connection.execute("SELECT to_regclass('goqueue.schema_migration') IS NOT NULL")
    row = await cursor.fetchone()
    applied: dict[int, tuple[str, datetime]] = {}
    if row is not None and row[0]:
        cursor = await connection.execute("SELECT version, checksum, applied_at FROM goqueue.schema_migration")
        applied = {version: (sum_, at) for version, sum_, at in await cursor.fetchall()}
    for version, name, text in MIGRATIONS:
        if version in applied and applied[version][0] != checksum(text):
            raise SchemaError(
                f"migration {name} was applied from another text: this is not the GoQueue that made the schema"
            )
    pending = tuple(name for version, name, _ in MIGRATIONS if version not in applied)
    last = max(applied.items(), default=None)
    return SchemaStatus(
        current=last[0] if last else 0, target=TARGET, pending=pending, applied_at=last[1][1] if last else None
    )


async def apply(
    connection: AsyncConnection[Any],
    another: Callable[[], Awaitable[AsyncConnection[Any]]],
    *,
    lock_timeout_s: float,
) -> SchemaStatus:
    """Apply what is pending, each migration by itself. Concurrent callers wait for each other.

    ``another`` opens a second connection, which is closed again. Raises `StoreUnavailable` when a table could not be
    locked in all of `LOCK_TRIES`; what was applied until then stays, and the next call goes on from there.
    """
    tries = 0
    while True:
        try:
            status_, left = await _next(connection, lock_timeout_s)
        except pg.LockNotAvailable as e:
            tries += 1
            if tries >= LOCK_TRIES:
                raise StoreUnavailable(
                    "a table that a migration changes is in use all the time: end the long transactions, and try again"
                ) from e
            log.info("migrate", reason="a table is in use", tries=tries)
            await asyncio.sleep(random.uniform(0.05, PAUSE_MAX_S))  # noqa: S311
            continue
        if left is None:
            return status_
        tries = 0
        await _make_index(connection, another, *left)


async def _next(
    connection: AsyncConnection[Any], lock_timeout_s: float
) -> tuple[SchemaStatus, tuple[int, str, str] | None]:
    """Apply pending migrations up to one that cannot be in a transaction, and return that; None when all are done."""
    while True:
        async with connection.transaction():
            await connection.execute(_LOCK)
            await connection.execute(
                sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{round(lock_timeout_s * 1000)}ms"))
            )
            await connection.execute(_BASE)
            now = await status(connection)
            if now.current > TARGET:
                check(now.current)
            if not now.pending:
                return now, None
            version, name, text = next(m for m in MIGRATIONS if m[1] == now.pending[0])
            if _CONCURRENTLY.match(text):
                return now, (version, name, text)
            await connection.execute(text.encode())
            await connection.execute(_NOTE, (version, name, checksum(text)))


async def _make_index(
    connection: AsyncConnection[Any],
    another: Callable[[], Awaitable[AsyncConnection[Any]]],
    version: int,
    name: str,
    text: str,
) -> None:
    """Make an index beside its table's readers and writers, unless somebody else has done it meanwhile.

    The lock is held by a transaction of ``another`` connection, which rests: the making of an index waits for every
    snapshot that is older, and for that reason nobody may wait for this lock inside a statement.
    """
    match = _CONCURRENTLY.match(text)
    assert match is not None
    index = sql.Identifier("goqueue", match[1])
    keeper = await another()
    try:
        while True:
            async with keeper.transaction():
                row = await (await keeper.execute(_TRY_INDEX_LOCK)).fetchone()
                if row is not None and row[0]:
                    row = await (await connection.execute(_INDEX_IS_VALID, (f"goqueue.{match[1]}",))).fetchone()
                    if row is not None and not row[0]:
                        await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(index))
                    if row is None or not row[0]:
                        await connection.execute(text.encode())
                    await connection.execute(_NOTE, (version, name, checksum(text)))
                    return
            await asyncio.sleep(random.uniform(0.05, PAUSE_MAX_S))  # noqa: S311
    finally:
        await keeper.close()


def _in_a_transaction(text: str) -> str:
    return text.replace("CREATE INDEX CONCURRENTLY", "CREATE INDEX") if _CONCURRENTLY.match(text) else text
