"""Plans of the hot verbs, on tables whose statistics are stale, fresh, or from a time when nothing was there.

Each statement is planned as it runs: in a transaction without sequential scans. From PostgreSQL 16 on also as the
generic plan that the server keeps for a prepared statement.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import RawCursor

from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.model.job import JobRef, NewJob
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Complete, Settlement
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres._sync.database import GUARD
from goqueue.store.postgres.adapters import teach
from goqueue.store.postgres.lanes import START, Lane
from goqueue.store.postgres.pack import float8s, int8s, raw_texts, uuids
from goqueue.store.postgres.sql import names, query, text
from goqueue.store.postgres.verbs.work import claim
from goqueue.tasks.prepare import new_id, prepare
from tests.support.database import temporary_database

WORKER = "00000000-0000-7000-8000-000000000001"


class Node(NamedTuple):
    """One node of a plan: what it does, on which table, by which index."""

    kind: str
    table: str
    by: str


ANALYZE = b"VACUUM ANALYZE goqueue.job, goqueue.job_history, goqueue.job_key, goqueue.worker"


@pytest.fixture(scope="module", params=["analysed while empty", "never analysed", "fresh"])
def seeded(
    request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres, database_template: str
) -> Iterator[psycopg.Connection[Any]]:
    """20,000 jobs, half of them history. The statistics are what the parameter says; autovacuum is off for `job`."""
    with (
        temporary_database(postgres_server, database_template) as url,
        psycopg.connect(url, autocommit=True, cursor_factory=RawCursor) as connection,
    ):
        teach(connection.adapters)
        connection.execute(b"ALTER TABLE goqueue.job SET (autovacuum_enabled = off)")
        if request.param == "analysed while empty":
            connection.execute(ANALYZE)
        asyncio.run(seed(url))
        if request.param == "fresh":
            connection.execute(ANALYZE)
        yield connection


async def seed(url: str) -> None:
    store = PostgresStore(url, settings=StoreSettings(dead_retention_s=None))
    await store.open()
    for start in range(0, 20_000, 1_000):
        jobs: list[NewJob[object]] = [
            prepare(NewJob(kind="noop", queue=f"q{i % 100}", priority=i % 10, args=b'{"a":1}'))
            for i in range(start, start + 1_000)
        ]
        await store.enqueue(jobs)
    await store.extend(Beat(worker=WorkerInfo(id=WORKER), ttl_s=3600))
    want = Want(worker_id=WORKER, queues=tuple(f"q{i}" for i in range(100)), total=500)
    for _ in range(20):
        claimed = await store.claim(want)
        await store.settle([Settlement(lease.ref, lease.fence, Complete()) for lease in claimed.leases])
    await store.claim(want)
    await store.close()


def plan(connection: psycopg.Connection[Any], sql: bytes, params: tuple[object, ...], *, generic: bool) -> list[Node]:
    """Return the nodes of a statement's plan."""
    with connection.transaction():
        connection.execute(GUARD.format(local="true", lock_ms=10_000, plans="auto").encode())
        cursor = connection.cursor(binary=False)
        options = b"FORMAT JSON, GENERIC_PLAN" if generic else b"FORMAT JSON"
        cursor.execute(b"EXPLAIN (" + options + b") " + sql, () if generic else params, prepare=False)
        row = cursor.fetchone()
    assert row is not None
    document = row[0] if not isinstance(row[0], str | bytes) else json.loads(row[0])
    return list(walk(document[0]["Plan"]))


def walk(node: dict[str, Any]) -> Iterator[Node]:
    yield Node(node["Node Type"], node.get("Relation Name", ""), node.get("Index Name", ""))
    for child in node.get("Plans", []):
        yield from walk(child)


def modes(connection: psycopg.Connection[Any]) -> list[bool]:
    return [False, True] if connection.info.server_version >= 160000 else [False]


def is_big(table: str) -> bool:
    return table == "job" or table.startswith("job_history")


@pytest.mark.parametrize("lanes", [1, 100, 10_000])
@pytest.mark.parametrize("settles", [True, False])
def test_claim_walks_lanes_by_index_and_writes_by_tid(
    seeded: psycopg.Connection[Any], lanes: int, settles: bool
) -> None:
    want = Want(worker_id=WORKER, queues=(), total=500)
    asked = [(Lane(f"q{i % 1000}", i // 1000, ""), START) for i in range(lanes)]
    outcomes = [Settlement(JobRef("default", "q0", new_id()), 1, Complete(b"1")) for _ in range(500 * settles)]
    statement = next(claim(want, asked, outcomes, StoreSettings()))
    for generic in modes(seeded):
        nodes = plan(seeded, query(statement.name), statement.params, generic=generic)
        scans = [n for n in nodes if n.table == "job" and n.kind != "ModifyTable"]
        assert {n.kind for n in scans} <= {"Index Scan", "Index Only Scan", "Tid Scan"}, (generic, scans)
        indexes = {"job_ready", "job_pkey"} if settles else {"job_ready"}
        assert {n.by for n in scans if n.by} == indexes, (generic, scans)
        # The delete, the update back to waiting and the lease each find their row by its TID.
        assert sum(n.kind == "Tid Scan" for n in scans) == (3 if settles else 1), (generic, scans)
        assert not [n for n in nodes if n.kind == "Hash Join" and n.table == "job"], generic


RETENTION = float8s([60.0, 60.0, None])
LOOK_UPS: dict[str, tuple[object, ...]] = {
    "settle_check": (uuids([new_id()]), int8s([1]), date(2026, 1, 1)),
    "extend_held": (WORKER, uuids([new_id()]), int8s([1]), raw_texts([None]), 500, raw_texts([None]), None),
    "note": (None, uuids([new_id()]), int8s([1]), raw_texts([b"1"]), raw_texts([b"[]"])),
    "get": (None, "default", uuids([new_id()]), date(2026, 1, 1)),
    "history": (None, "default", uuids([new_id()]), date(2026, 1, 1)),
    "cancel": (None, "default", uuids([new_id()]), "", RETENTION, None),
    "retry_live": (None, "default", uuids([new_id()]), 0.0, 1.0),
    "retry_history": (None, "default", uuids([new_id()]), date(2026, 1, 1), None, uuids([new_id()]), 0.0, 1.0, None),
    "delete": ("default", uuids([new_id()]), date(2026, 1, 1)),
    "change_check": ("default", uuids([new_id()]), date(2026, 1, 1), None),
    "enqueue_waits": (new_id(), b"k" * 32, 0.0),
    "enqueue_undo": (uuids([new_id()]), date(2026, 1, 1)),
    "sweep_orphans": (None, 500, None, None, None, None, RETENTION, None, 1.0),
    "sweep_expired": (None, 500, "upkeep", "me", 1, None, RETENTION, '{"q1":[1.0,2.0,null]}'),
    "expired": (None, 500),
    "find_history": (None, "default", new_id(), 50, *[None] * 8, 10_000, datetime(2026, 1, 1, tzinfo=UTC), None),
    "find_failed": (None, "default", new_id(), 50, *[None] * 8, 10_000, datetime(2026, 1, 1, tzinfo=UTC), None),
    "doctor_queues": (None, 100, 100, 50, 1_000),
    "doctor_kinds": (None, "no task of kind", 100, 50, 50, 2_000, 100_000),
    "lanes": (None, "default", ["q1", "q2"], 128),
}


@pytest.mark.parametrize("name", sorted(LOOK_UPS))
def test_look_ups_never_read_a_whole_table(seeded: psycopg.Connection[Any], name: str) -> None:
    for generic in modes(seeded):
        nodes = plan(seeded, query(name), LOOK_UPS[name], generic=generic)
        whole = [n for n in nodes if n.kind == "Seq Scan" and is_big(n.table)]
        assert not whole, (generic, whole)
        indexes = ("job_pkey", "job_ready", "job_running", "job_expire", "job_history")
        assert any(n.by.startswith(indexes) for n in nodes), nodes


def test_lapsed_keys_are_found_by_their_end(seeded: psycopg.Connection[Any]) -> None:
    """Most keys have no end, or one that is far."""
    for generic in modes(seeded):
        nodes = plan(seeded, query("sweep_records"), (None, 500, None, None, None), generic=generic)
        scans = [n for n in nodes if n.table == "job_key" and n.kind not in ("ModifyTable", "Tid Scan")]
        assert {(n.kind, n.by) for n in scans} <= {("Index Scan", "job_key_until"), ("Bitmap Heap Scan", "")}, scans
        assert any(n.by == "job_key_until" for n in nodes), nodes


def test_every_statement_is_understood_by_the_server(seeded: psycopg.Connection[Any]) -> None:
    """A statement that no test happens to run would break at night: let the server parse each of them."""
    for name in names():
        result = seeded.pgconn.prepare(b"", query(name))
        assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, (name, result.error_message)


def test_every_statement_has_a_header() -> None:
    folder = files("goqueue.store.postgres") / "queries"
    for name in names():
        header = (folder / f"{name}.sql").read_text().split("\n\n")[0]
        assert header.startswith("-- "), name
        assert "rows" in header.lower(), name
        assert text(name), name
