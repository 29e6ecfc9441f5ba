"""A real PostgreSQL for tests: one server for a session, a fresh database with the schema for each test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from goqueue import wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_VARIABLE: Final = "GOQUEUE_TEST_SERVER_URL"
"""A server to make databases on, for those who have one: the url of a role that may."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """The url of a running server on which databases can be made: a given one, else an embedded one of our own.

    The embedded one comes with the ``[dev]`` extra, and is not durable: it forgets all when it stops.
    """
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        yield given
        return
    from goqueue.cli.dev.embedded import EmbeddedPostgres

    # As root the server runs as another account, which cannot enter root's own folders.
    base = "/var/tmp" if hasattr(os, "geteuid") and os.geteuid() == 0 else None  # noqa: S108  mkdtemp makes it our own
    folder = Path(tempfile.mkdtemp(prefix="goqueue-test-", dir=base))
    try:
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "server", durable=False) as server:
            yield server.url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def migrated_template(server_url: str) -> Iterator[str]:
    """The name of a database with the schema, from which others are copied; dropped at the end."""
    with temporary_database(server_url) as url:
        asyncio.run(_migrate(url))
        yield urlsplit(url).path.lstrip("/")


@contextmanager
def temporary_database(server_url: str, template: str | None = None) -> Iterator[str]:
    """The url of a database of its own, dropped at the end whoever is still connected."""
    import psycopg
    from psycopg import sql

    name = f"goqueue_test_{uuid.uuid4().hex[:12]}"
    copied = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(name), sql.Identifier(template or "template1")
    )
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(copied)
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


async def _migrate(url: str) -> None:
    await wiring.migrate(url)
