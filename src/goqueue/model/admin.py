"""Values of upkeep: capabilities, elections, records, sweeps, schema."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can promise. Logged at start-up, listed in docs/guarantees.md; a difference is no silent no-op."""

    store: str
    durable: bool
    """An acknowledged write survives a crash of the store."""
    transactional_enqueue: bool
    """Jobs can be enqueued inside the caller's own transaction."""
    transactional_complete: bool
    shared: bool
    """Other processes see the same jobs."""
    notifications: bool
    """Wake-ups are pushed; otherwise workers poll."""
    time_travel: bool
    """The clock can be set by tests."""


class Duty(StrEnum):
    """Kinds of upkeep that a store can be asked for, a bounded piece at a time."""

    ORPHANS = "orphans"
    """Running jobs of workers whose row has expired."""
    ORPHANS_FULL = "orphans_full"
    """Running jobs whose worker row is missing."""
    WORKERS = "workers"
    """Rows of workers that have gone and hold no jobs."""
    EXPIRED = "expired"
    """Waiting jobs that were not started in time (``schedule_to_start_s``), or whose total deadline has passed."""
    HISTORY = "history"
    """History partitions: made ahead, dropped when past; expired records and keys."""


class Swept(msgspec.Struct, frozen=True):
    """What one piece of upkeep did. ``more`` means that another piece is due at once."""

    count: int
    more: bool = False
    deposed: bool = False
    """Nothing was done: the term under which it was asked for is not the present one any more."""


class Term(msgspec.Struct, frozen=True):
    """Leadership of ``name`` until ``ttl_s`` from when the request was sent. ``number`` grows with each new leader."""

    name: str
    holder: str
    number: int


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Works, and will hurt."""
    ERROR = "error"
    """Does not work, or loses a promise."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one look of `goqueue doctor` at a store has found."""

    check: str
    """A stable code, such as ``oldest_snapshot``."""
    level: Level
    text: str
    """What was seen, with figures."""
    do: str = ""
    """What to do about it; empty when nothing is."""


class Record(msgspec.Struct, frozen=True):
    """A small named value under compare-and-set. ``version`` grows with each write."""

    name: str
    value: bytes
    version: int


class SchemaStatus(msgspec.Struct, frozen=True):
    """Which migrations a store has and which this version of GoQueue wants."""

    current: int
    target: int
    pending: tuple[str, ...] = ()
    applied_at: datetime | None = None
