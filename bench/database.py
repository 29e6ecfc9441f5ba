"""A durable PostgreSQL of the bench's own, and an empty database for each run."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, LiteralString

import msgspec
import psycopg
from psycopg import sql

from bench.watching import Patience
from goqueue.cli.dev.embedded import EmbeddedPostgres

SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}
SHOWN: Final = (*SETTINGS, "wal_sync_method", "autovacuum", "jit")


HOT_TABLE: Final = "goqueue.job"
_TOTALS: LiteralString = """
SELECT pg_table_size(%s::regclass),
       pg_indexes_size(%s::regclass),
       (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables),
       (pg_current_wal_insert_lsn() - '0/0')::bigint,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class Totals:
    """Sizes of GoQueue's hot table, dead rows of all, and what the database has written since it was made."""

    table_bytes: int
    index_bytes: int
    dead_rows: int
    wal_bytes: int
    commits: int

    def since(self, earlier: Totals) -> Totals:
        """The same sizes, and what was written since then."""
        wal_bytes, commits = self.wal_bytes - earlier.wal_bytes, self.commits - earlier.commits
        return replace(self, wal_bytes=wal_bytes, commits=commits)


@dataclass(frozen=True)
class Server:
    """The server, and the folder in which the bench keeps its logs."""

    postgres: EmbeddedPostgres
    folder: Path
    patience: Patience
    """With a machine that has other work."""

    def facts(self) -> dict[str, str]:
        """Its version and the settings on which figures depend, as the server tells them."""
        with _connect(self.postgres.url_for("postgres")) as connection:
            shown = {name: _one(connection, "SELECT current_setting(%s)", name) for name in SHOWN}
            return {"postgresql": str(_one(connection, "SHOW server_version")), **{k: str(v) for k, v in shown.items()}}

    @contextmanager
    def database(self) -> Iterator[str]:
        """The url of an empty database, dropped afterwards whoever is still connected."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        administrator = self.postgres.url_for("postgres")
        with _connect(administrator) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield self.postgres.url_for(name)
        finally:
            with _connect(administrator) as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def started(*, quiet_s: float) -> Iterator[Server]:
    """A server with nothing in it, thrown away afterwards."""
    # As root the server runs under another account, which cannot enter root's own TMPDIR.
    base = "/var/tmp" if os.geteuid() == 0 else None  # noqa: S108  mkdtemp makes it our own
    folder = Path(tempfile.mkdtemp(prefix="goqueue-bench-", dir=base))
    folder.chmod(0o711)
    try:
        with EmbeddedPostgres(folder / "server", durable=True, settings=SETTINGS) as postgres:
            yield Server(postgres, folder, Patience(quiet_s))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle_down(url: str) -> None:
    """Do what autovacuum and the checkpointer would do before long, so that no run pays for another's writes."""
    with _connect(url) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def count(url: str, query: LiteralString) -> int:
    """The one number that a query returns."""
    with _connect(url) as connection:
        return _number(connection, sql.SQL(query))


def dead_rows(url: str) -> int:
    """Dead rows of all tables, as the statistics have them."""
    with _connect(url) as connection:
        return _number(connection, sql.SQL("SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables"))


def totals(url: str) -> Totals:
    """What GoQueue's database holds and has written."""
    with _connect(url) as connection:
        row = connection.execute(_TOTALS, (HOT_TABLE, HOT_TABLE)).fetchone()
    assert row is not None
    return msgspec.convert(dict(zip(Totals.__dataclass_fields__, row, strict=True)), Totals)


@dataclass(frozen=True)
class Copies:
    """Jobs like the one that is there, in ``queue``, or spread over the queues q0, q1, …; and over priorities."""

    count: int
    queue: str | None = None
    queues: int = 1
    priorities: int = 1
    ahead_s: float = 0.0
    """How far ahead the first is scheduled; the others follow each other by a millisecond."""


def copy_job(url: str, copies: Copies) -> None:
    """Make copies of the one job of the hot table, and remove that."""
    with _connect(url) as connection:
        names = [
            str(row[0])
            for row in connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'goqueue.job'::regclass AND attnum > 0"
                " AND NOT attisdropped"
            )
        ]
        own = {
            "id": sql.SQL("uuidv7()"),
            "run_at": sql.SQL("run_at + {} * interval '1 s' + n * interval '1 ms' * {}").format(
                copies.ahead_s, int(copies.ahead_s > 0)
            ),
            "queue": sql.SQL("coalesce({}, 'q' || n % {})").format(copies.queue, copies.queues),
            "priority": sql.SQL("(n % {})::smallint").format(copies.priorities),
        }
        if copies.ahead_s:
            own["queue"] = sql.SQL("queue")
        connection.execute(
            sql.SQL(
                "WITH one AS (DELETE FROM goqueue.job RETURNING *)"
                " INSERT INTO goqueue.job ({}) SELECT {} FROM one, generate_series(1, {}) AS n"
            ).format(
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join(own.get(name, sql.Identifier(name)) for name in names),
                copies.count,
            )
        )


@contextmanager
def snapshot_held(url: str) -> Iterator[None]:
    """A REPEATABLE READ transaction with an id of its own, open as long as the block: nothing newer can be vacuumed."""
    with _connect(url) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_xact_id(), count(*) FROM pg_class GROUP BY 1")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def without_autovacuum(url: str) -> Iterator[None]:
    """Autovacuum of the whole server is off as long as the block."""
    with _connect(url) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET autovacuum")
            connection.execute("SELECT pg_reload_conf()")


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


def _one(connection: psycopg.Connection[tuple[object, ...]], query: LiteralString, *values: object) -> object:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]


def _number(connection: psycopg.Connection[tuple[object, ...]], query: sql.Composed | sql.SQL) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]
