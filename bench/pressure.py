"""What else goes on in the database while jobs flow: nothing, a held snapshot, readers that scan, no autovacuum."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, LiteralString

import psycopg

from bench import database

READERS = 2
SCAN_EVERY_S = 1.0
"""Often enough to be felt, and rarely enough to leave the cores to the jobs."""
STOP_S = 60.0

Condition = Callable[[str, LiteralString], AbstractContextManager[None]]
"""Given the url and the query that counts unfinished jobs, which reads the table through which they flow."""


@contextlib.contextmanager
def clean(url: str, scan: LiteralString) -> Iterator[None]:  # noqa: ARG001
    """Nothing."""
    yield


@contextlib.contextmanager
def snapshot(url: str, scan: LiteralString) -> Iterator[None]:  # noqa: ARG001
    """An idle transaction with a snapshot and an id of its own."""
    with database.snapshot_held(url):
        yield


@contextlib.contextmanager
def readers(url: str, scan: LiteralString) -> Iterator[None]:
    """REPEATABLE READ transactions, each open as long as the block, that read the jobs once a second."""
    stop = threading.Event()
    threads = [threading.Thread(target=_read, args=(url, scan, stop), daemon=True) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(STOP_S)


@contextlib.contextmanager
def no_autovacuum(url: str, scan: LiteralString) -> Iterator[None]:
    """A held snapshot, and nothing would be vacuumed without it either."""
    with database.without_autovacuum(url), snapshot(url, scan):
        yield


CLEAN: Final = "clean"
HELD: Final = "snapshot held"
CONDITIONS: Mapping[str, Condition] = {
    CLEAN: clean,
    HELD: snapshot,
    "readers scan": readers,
    "snapshot held, no autovacuum": no_autovacuum,
}


def _read(url: str, scan: LiteralString, stop: threading.Event) -> None:
    with psycopg.connect(url, autocommit=True) as connection, contextlib.suppress(psycopg.OperationalError):
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        while not stop.is_set():
            connection.execute(scan)
            stop.wait(SCAN_EVERY_S)
        connection.execute("ROLLBACK")
