"""Plans inside a caller's own transaction, on a connection that is the caller's (psycopg)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from goqueue.model.errors import InvalidInput
from goqueue.store.postgres.adapters import teach
from goqueue.store.postgres.errors import DriverError, translate
from goqueue.store.postgres.sql import query
from goqueue.store.postgres.verbs import enqueue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued
    from goqueue.store.postgres.statement import Plan

T = TypeVar("T")


async def enqueue_in(conn: object, jobs: Sequence[NewJob[Any]], now: datetime | None) -> list[Enqueued]:
    """Store jobs in the transaction that is open on ``conn``, or that begins with this statement.

    Raises `InvalidInput` for a connection that is not a psycopg ``AsyncConnection`` or whose transaction has failed.
    """
    if not isinstance(conn, AsyncConnection):
        raise InvalidInput(
            f"needs a psycopg AsyncConnection, got {type(conn).__module__}.{type(conn).__name__}", "conn"
        )
    if conn.info.transaction_status == TransactionStatus.INERROR:
        raise InvalidInput("its transaction has failed: roll it back first", "conn")
    if conn.pgconn.pipeline_status != PipelineStatus.OFF:
        raise InvalidInput("is in pipeline mode: enqueue before or after it", "conn")
    if conn.info.encoding != "utf-8":
        raise InvalidInput(f"has client_encoding {conn.info.encoding}: it must be UTF8", "conn")
    try:
        if conn.info.transaction_status == TransactionStatus.IDLE and conn.autocommit:
            async with conn.transaction():  # several statements, all or nothing
                return await _enqueue(conn, jobs, now)
        return await _enqueue(conn, jobs, now)
    except DriverError as e:
        raise translate(e) from e


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
