"""History partitions: one for each day on which final jobs expire, made ahead, dropped when past.

A partition is made as a table of its own and then attached: `CREATE TABLE … PARTITION OF` would wait for every reader
of the history with a lock that blocks every settle behind it. It is dropped by `DETACH … CONCURRENTLY` for the same
reason.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from psycopg import OperationalError, sql
from psycopg import errors as pg

from goqueue.store.postgres.retention import every
from goqueue.store.postgres.sql import query
from goqueue.store.postgres.verbs.admin import term_parameters

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from goqueue.model.admin import Term
    from goqueue.settings import StoreSettings

AHEAD_DAYS: Final = 7
MARK: Final = "goqueue: past, and to be dropped"
"""The comment on a partition that is about to be detached and dropped. Without it a detached one is somebody's own."""
_DAY: Final = re.compile(r"^job_history_(\d{8})$")
log = structlog.get_logger("goqueue.store")


def needed(settings: StoreSettings, now: datetime) -> list[date]:
    """Return the days for which a job that ends between now and `AHEAD_DAYS` from now needs a partition."""
    days: set[date] = set()
    for retention_s in every(settings):
        if retention_s:  # not None: those have a partition of their own; not 0: those are not kept
            first = (now.astimezone(UTC) + timedelta(seconds=retention_s)).date() + timedelta(days=1)
            days.update(first + timedelta(days=n) for n in range(AHEAD_DAYS + 1))
    return sorted(days)


class Deposed(Exception):
    """The term under which upkeep was asked for is not the present one any more."""


async def ensure(
    connection: AsyncConnection[Any], settings: StoreSettings, now: datetime | None, term: Term | None = None
) -> int:
    """Make the partitions that are needed and missing; return how many. Safe beside others who do the same.

    Raises `Deposed` when ``term`` is over. One that cannot be made now raises the driver's error: nothing is lost by
    that, a job that needs it stays as it is.
    """
    now = now or await _clock(connection)
    there = {day for day, _, _ in await _existing(connection)}
    made = 0
    for day in needed(settings, now):
        if day not in there:
            made += await _make(connection, day, settings.lock_timeout_s, term, now)
    return made


async def drop_past(
    connection: AsyncConnection[Any], settings: StoreSettings, now: datetime | None, term: Term | None = None
) -> int:
    """Drop the partitions whose jobs have all expired; return how many. One that cannot be dropped now waits.

    A detach waits for every reader that has seen the partition. One that takes longer than the connection's deadline is
    cancelled, and finished by a later round. One that was detached, and not dropped any more, is found by its mark.
    """
    today = (now or await _clock(connection)).astimezone(UTC).date()
    dropped = await _drop_left(connection, settings, today, now, term)
    for day, name, pending in await _existing(connection):
        if day <= today:
            how = sql.SQL("FINALIZE") if pending else sql.SQL("CONCURRENTLY")
            table = sql.Identifier("goqueue", name)
            detach = sql.SQL("ALTER TABLE goqueue.job_history DETACH PARTITION {} {}").format(table, how)
            try:
                # A concurrent detach cannot be in a transaction with the check; what is past is past for any leader.
                await _check(connection, term, now)
                await connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(MARK)))
                await connection.execute(detach)
                await connection.execute(sql.SQL("DROP TABLE {}").format(table))
            except pg.UndefinedTable:
                continue  # somebody else has dropped it meanwhile, or is about to
            except OperationalError as e:
                log.warning(
                    "history", partition=name, error=str(e).strip(), hint="somebody reads it: tried again later"
                )
                return dropped
            dropped += 1
    return dropped


async def _drop_left(
    connection: AsyncConnection[Any], settings: StoreSettings, today: date, now: datetime | None, term: Term | None
) -> int:
    """Drop what an earlier round has marked and detached, and then did not come to drop."""
    dropped = 0
    for (name,) in await (await connection.execute(query("partitions_left"), (MARK, None))).fetchall():
        day = _day(name)
        if day is None or day > today:
            continue
        table = sql.Identifier("goqueue", name)
        try:
            async with connection.transaction():
                await connection.execute(_lock_timeout(settings.lock_timeout_s))
                await _check(connection, term, now)
                await connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
                # Under the lock nobody can take it back any more: look once again.
                if not await (await connection.execute(query("partitions_left"), (MARK, name))).fetchall():
                    continue
                await connection.execute(sql.SQL("DROP TABLE {}").format(table))
        except pg.UndefinedTable:
            continue
        except (OperationalError, pg.DependentObjectsStillExist) as e:
            log.warning("history", partition=name, error=str(e).strip(), hint="it is past and detached: drop it")
            if connection.closed:
                raise
            continue
        dropped += 1
    return dropped


def _lock_timeout(seconds: float) -> sql.Composed:
    return sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{round(seconds * 1000)}ms"))


async def _check(connection: AsyncConnection[Any], term: Term | None, now: datetime | None) -> None:
    if term is None:
        return
    row = await (await connection.execute(query("term"), (now, *term_parameters(term)))).fetchone()
    if row is None or not row[0]:
        raise Deposed


async def _clock(connection: AsyncConnection[Any]) -> datetime:
    """Return the server's now: days are the database's, whatever the clock of this machine says."""
    row = await (await connection.execute(query("clock"))).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


async def _existing(connection: AsyncConnection[Any]) -> list[tuple[date, str, bool]]:
    cursor = await connection.execute(query("partitions"))
    found = []
    for name, pending in await cursor.fetchall():
        day = _day(name)
        if day is not None:
            found.append((day, name, pending))
    return sorted(found)


def _day(name: str) -> date | None:
    """Return the day of a partition by its name; None if it is not one of ours."""
    match = _DAY.search(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


async def _make(
    connection: AsyncConnection[Any], day: date, lock_timeout_s: float, term: Term | None, now: datetime
) -> int:
    table = sql.Identifier("goqueue", f"job_history_{day:%Y%m%d}")
    try:
        async with connection.transaction():
            await connection.execute(_lock_timeout(lock_timeout_s))
            await _check(connection, term, now)
            await connection.execute(sql.SQL("CREATE TABLE {} (LIKE goqueue.job_history INCLUDING ALL)").format(table))
            await connection.execute(
                sql.SQL("ALTER TABLE goqueue.job_history ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    table, sql.Literal(day.isoformat()), sql.Literal((day + timedelta(days=1)).isoformat())
                )
            )
    except (pg.DuplicateTable, pg.DuplicateObject, pg.UniqueViolation):
        return 0  # somebody else makes it at this moment
    return 1
