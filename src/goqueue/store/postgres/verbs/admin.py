"""Upkeep: sweeps, elections, records, workers, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from goqueue.model import limits
from goqueue.model.admin import Duty, Record, Swept, Term
from goqueue.store.postgres import retention
from goqueue.store.postgres.rows import worker_record
from goqueue.store.postgres.statement import Plan, Statement

if TYPE_CHECKING:
    from datetime import datetime

    from goqueue.model.lease import WorkerRecord
    from goqueue.settings import StoreSettings


def sweep(
    duty: Duty,
    limit: int,
    settings: StoreSettings,
    now: datetime | None = None,
    *,
    term: Term | None = None,
    only: str | None = None,
) -> Plan[Swept]:
    """Do a bounded piece of upkeep; partitions are the store's own work (`goqueue.store.postgres.partitions`).

    ``only`` restricts a sweep of jobs to one of them. Each statement looks for itself whether ``term`` still stands.
    """
    asked = (now, limit, *term_parameters(term))
    match duty:
        case Duty.ORPHANS | Duty.ORPHANS_FULL:
            name = "sweep_orphans" if duty is Duty.ORPHANS else "sweep_orphans_full"
            rows = yield Statement(name, (*asked, only, *retention.parameters(settings), settings.crash_delay_s))
        case Duty.EXPIRED:
            rows = yield Statement("sweep_expired", (*asked, only, *retention.parameters(settings)))
            dead, present, mended = rows[0]
            return Swept(dead, more=dead + mended >= limit, deposed=not present)
        case Duty.WORKERS:
            rows = yield Statement("sweep_workers", (*asked, limits.WORKER_KEPT_S))
        case Duty.HISTORY:
            rows = yield Statement("sweep_records", asked)
        case _:
            assert_never(duty)
    count, present = rows[0]
    return Swept(count, more=count >= limit, deposed=not present)


def term_parameters(term: Term | None) -> tuple[str | None, str | None, int | None]:
    """Return the parameters of ``queries/parts/term.sql``."""
    return (None, None, None) if term is None else (term.name, term.holder, term.number)


def candidates(duty: Duty, limit: int, now: datetime | None = None) -> Plan[list[str]]:
    """Name the jobs that a sweep would write: running ones of expired or missing workers, or expired ones."""
    if duty is Duty.EXPIRED:
        return [row[0] for row in (yield Statement("expired", (now, limit)))]
    return [row[0] for row in (yield Statement("orphans", (now, limit, duty is Duty.ORPHANS_FULL)))]


def elect(name: str, holder: str, ttl_s: float, now: datetime | None = None) -> Plan[Term | None]:
    """Become or stay leader, or resign."""
    if ttl_s <= 0:
        yield Statement("resign", (now, name, holder))
        return None
    rows = yield Statement("elect", (now, name, holder, ttl_s))
    return Term(name, holder, rows[0][0]) if rows else None


def read(name: str, now: datetime | None = None) -> Plan[Record | None]:
    """Read a record."""
    rows = yield Statement("record_read", (now, name))
    return Record(name, bytes(rows[0][0]), rows[0][1]) if rows else None


def write(
    name: str, value: bytes, version: int, ttl_s: float | None, now: datetime | None = None
) -> Plan[Record | None]:
    """Create a record (version 0) or change it, if nobody else did."""
    if version == 0:
        rows = yield Statement("record_create", (now, name, value, ttl_s))
    else:
        rows = yield Statement("record_write", (now, name, value, ttl_s, version))
    return Record(name, value, rows[0][0]) if rows else None


def workers(tenant: str, now: datetime | None = None) -> Plan[list[WorkerRecord]]:
    """List workers."""
    rows = yield Statement("workers", (tenant, 1_000, now))
    return [worker_record(row) for row in rows]


def pause(tenant: str, queue: str, *, paused: bool, now: datetime | None = None) -> Plan[None]:
    """Pause or resume a queue. The caller runs it in one transaction, so that a pause is exact once answered."""
    yield Statement("lock_timeout", ("500ms",))
    yield Statement("pause_lock")
    if paused:
        yield Statement("pause", (now, tenant, queue))
    else:
        yield Statement("resume", (tenant, queue))


def paused(tenant: str) -> Plan[list[str]]:
    """Name paused queues."""
    return [row[0] for row in (yield Statement("paused", (tenant,)))]
