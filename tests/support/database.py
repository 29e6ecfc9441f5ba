"""Databases for tests: a server for the session, a template with the schema, a copy for each test."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import inspect
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import psycopg
from psycopg import sql

from goqueue.cli.dev.embedded import EmbeddedPostgres
from tests.support.pgbouncer import PgBouncer, temporary_pgbouncer

TEMPLATE = "goqueue_template"
POOLED = os.environ.get("GOQUEUE_TEST_PGBOUNCER", "") not in ("", "0")
"""Whether tests get their databases by way of a PgBouncer in transaction mode (a step of `make check`)."""

HANDED_OVER = os.environ.get("GOQUEUE_TEST_SERVER") or None
"""Folder of a server that runs already and is shared with other sessions."""

_POOLERS: dict[int, PgBouncer] = {}
"""The poolers in front of servers that run, by the servers' identity."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that the server's account can enter also when the tests run as root.

    pytest's own `tmp_path` cannot be entered by others, and TMPDIR may be under root's home.
    """
    base = "/var/tmp" if os.geteuid() == 0 else None  # noqa: S108 - mkdtemp makes it our own
    folder = Path(tempfile.mkdtemp(prefix="goqueue-test-", dir=base))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bin_dir() -> Path | None:
    """Another PostgreSQL than the embedded one, if the environment names its folder."""
    named = os.environ.get("GOQUEUE_TEST_PG_BIN")
    return Path(named) if named else None


@contextmanager
def running_server() -> Iterator[EmbeddedPostgres]:
    """A server of the tests' own, thrown away afterwards."""
    with (
        temporary_folder() as folder,
        EmbeddedPostgres(folder / "server", bin_dir=bin_dir(), durable=False) as server,
        pooled(server),
    ):
        yield server


@contextmanager
def session_server() -> Iterator[EmbeddedPostgres]:
    """The server of a session: one that another process has handed over (scripts/mutation), or one of its own."""
    if HANDED_OVER is None:
        with running_server() as server:
            yield server
        return
    with EmbeddedPostgres(HANDED_OVER, bin_dir=bin_dir(), durable=False) as server:
        yield server


@contextmanager
def pooled(server: EmbeddedPostgres) -> Iterator[None]:
    """Put a pooler in front of a running server, if this run is one through a pooler."""
    if not POOLED:
        yield
        return
    with temporary_pgbouncer(server.url) as pooler:
        _POOLERS[id(server)] = pooler
        try:
            yield
        finally:
            del _POOLERS[id(server)]


def handed_out(server: EmbeddedPostgres, url: str | None = None) -> str:
    """The url for the code under test: ``url`` (default: the server's own), through the pooler if there is one."""
    pooler = _POOLERS.get(id(server))
    direct = url or server.url
    return direct if pooler is None else pooler.behind(direct)


def prepare_template(url: str) -> None:
    """Bring the schema into the database that the tests' databases are copied from."""
    try:
        wiring = importlib.import_module("goqueue.wiring")
    except ModuleNotFoundError as error:
        if error.name != "goqueue.wiring":
            raise
        return  # no store yet: the template stays empty
    outcome = wiring.migrate(url)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


def make_template(server: EmbeddedPostgres) -> str:
    """Make the template once for a session; its name."""
    if HANDED_OVER is not None:
        return _make_shared_template(server)
    with _administrator(server) as connection:
        connection.execute(_statement("CREATE DATABASE {}", TEMPLATE))
    prepare_template(server.url_for(TEMPLATE))
    return TEMPLATE


def _make_shared_template(server: EmbeddedPostgres) -> str:
    """Make the template of this schema unless another session on this server has; its name.

    Nobody connects to it once it has its name: a database can only be copied while nobody does.
    """
    scripts = sorted((files("goqueue.store.postgres") / "migrations").iterdir(), key=lambda script: script.name)
    schema = hashlib.sha256(b"".join(script.read_bytes() for script in scripts if script.name.endswith(".sql")))
    name = f"{TEMPLATE}_{schema.hexdigest()[:12]}"
    with _administrator(server) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            unfinished = f"{name}_unfinished"
            connection.execute(_statement("DROP DATABASE IF EXISTS {} WITH (FORCE)", unfinished))
            connection.execute(_statement("CREATE DATABASE {}", unfinished))
            prepare_template(server.url_for(unfinished))
            connection.execute(_statement("ALTER DATABASE {} RENAME TO {}", unfinished, name))
    return name


@contextmanager
def temporary_database(server: EmbeddedPostgres, template: str = "template1") -> Iterator[str]:
    """The url of a database of its own, dropped afterwards whoever is still connected."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with _administrator(server) as connection:
        # For a small template on a server without fsync, copying files is several times as fast.
        connection.execute(_statement("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template))
    try:
        yield handed_out(server, server.url_for(name))
    finally:
        with _administrator(server) as connection:
            connection.execute(_statement("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


@contextmanager
def _administrator(server: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    # A test may have killed or stopped the server: the next one finds it running again.
    if not server.is_running():
        server.start()
    url = server.url_for("postgres")
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        yield connection


def _statement(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))
