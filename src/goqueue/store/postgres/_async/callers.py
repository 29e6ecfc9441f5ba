"""Enqueue and complete inside a caller's own transaction, on a connection that is the caller's.

On psycopg's connections our own statements run; on all others a stored function does it (`functions.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from goqueue.model.errors import InvalidInput
from goqueue.store.postgres import functions
from goqueue.store.postgres.adapters import teach
from goqueue.store.postgres.errors import DriverError, translate
from goqueue.store.postgres.kinds_async import ask
from goqueue.store.postgres.kinds_sync import check_transaction
from goqueue.store.postgres.sql import query
from goqueue.store.postgres.states import CLOSED, FAILED
from goqueue.store.postgres.verbs import enqueue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import NewJob
    from goqueue.model.outcome import Note
    from goqueue.model.query import Enqueued
    from goqueue.store.postgres.statement import Plan

T = TypeVar("T")


async def enqueue_in(conn: object, jobs: Sequence[NewJob[Any]], now: datetime | None) -> list[Enqueued]:
    """Store jobs in the transaction that is open on ``conn``, or that begins with this statement.

    ``now`` is for tests, and psycopg's connections only. Raises `InvalidInput` for a connection that cannot be used: of
    another kind, closed, in a transaction that has failed.
    """
    if not isinstance(conn, AsyncConnection):
        return functions.enqueued(jobs, await ask(conn, functions.enqueue(jobs)))
    _check(conn)
    try:
        if conn.info.transaction_status == TransactionStatus.IDLE and conn.autocommit:
            async with conn.transaction():  # several statements, all or nothing
                return await _enqueue(conn, jobs, now)
        return await _enqueue(conn, jobs, now)
    except DriverError as e:
        raise translate(e) from e


async def complete_in(
    conn: object, job_id: str, fence: int, result: bytes | None, retention_s: float | None, note: Note | None = None
) -> None:
    """Complete a running job in the transaction that is open on ``conn``, or that begins with this statement.

    ``note`` is what its attempt has said last. Raises `LeaseLost` unless the lease is valid, and has not completed the
    job before; `InvalidInput` as `enqueue_in`, and for one that commits by itself: what the
    handler did before would be no part of it.
    """
    call = functions.complete(job_id, fence, result, retention_s, note)
    if not isinstance(conn, AsyncConnection):
        functions.check_completed(job_id, await ask(conn, call))
        return
    _check(conn)
    check_transaction(conn, call)
    try:
        async with AsyncRawCursor(conn, row_factory=tuple_row) as cursor:
            await cursor.execute(query(call.name), (call.payload,), prepare=False)
            functions.check_completed(job_id, await cursor.fetchall())
    except DriverError as e:
        raise translate(e) from e


def _check(conn: AsyncConnection[Any]) -> None:
    if conn.closed and not conn.broken:
        raise InvalidInput(CLOSED, "conn")
    if conn.info.transaction_status == TransactionStatus.INERROR:
        raise InvalidInput(FAILED, "conn")
    if conn.pgconn.pipeline_status != PipelineStatus.OFF:
        raise InvalidInput("is in pipeline mode: enqueue before or after it", "conn")
    if not conn.broken and conn.info.encoding != "utf-8":
        raise InvalidInput(f"has client_encoding {conn.info.encoding}: it must be UTF8", "conn")


async def _enqueue(conn: AsyncConnection[Any], jobs: Sequence[NewJob[Any]], now: datetime | None) -> list[Enqueued]:
    answers = await _pump(enqueue.enqueue(jobs, now=now), conn)
    await _pump(enqueue.notify_idle(jobs, now), conn)
    return answers


async def _pump(plan: Plan[T], conn: AsyncConnection[Any]) -> T:
    async with AsyncRawCursor(conn, row_factory=tuple_row) as cursor:
        teach(cursor.adapters)
        try:
            statement = next(plan)
            while True:
                await cursor.execute(query(statement.name), statement.params, prepare=False, binary=True)
                rows = await cursor.fetchall() if cursor.description else ()
                statement = plan.send(rows)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
