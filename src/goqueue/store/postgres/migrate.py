"""Migrations: numbered files, each applied once, under one advisory lock, and never again changed.

They come in two phases: what is added first must work with the last release's code; what is taken away goes later.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from goqueue.model.admin import SchemaStatus
from goqueue.model.errors import SchemaError, SchemaMissing, SchemaOutdated, SchemaTooNew
from goqueue.store.postgres.sql import migration_files

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection

MIGRATIONS: Final = migration_files()
TARGET: Final = MIGRATIONS[-1][0]

_LOCK: Final = "SELECT pg_catalog.pg_advisory_xact_lock(7237115646297)"
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
    """Return all migrations as one SQL script, for those who apply them with tools of their own."""
    parts = ["BEGIN;", _LOCK + ";", _BASE.strip()]
    for version, name, text in MIGRATIONS:
        row = f"VALUES ({version}, '{name}', '{checksum(text)}')"
        parts += [f"-- {name}", text.strip(), f"INSERT INTO goqueue.schema_migration (version, name, checksum) {row};"]
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


async def apply(connection: AsyncConnection[Any], *, lock_timeout_s: float) -> SchemaStatus:
    """Apply what is pending, each migration in a transaction of its own. Concurrent callers wait for each other."""
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
                return now
            version, name, text = next(m for m in MIGRATIONS if m[1] == now.pending[0])
            await connection.execute(text.encode())
            await connection.execute(
                "INSERT INTO goqueue.schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
                (version, name, checksum(text)),
            )
