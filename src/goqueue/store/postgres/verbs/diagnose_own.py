"""As `goqueue.store.postgres.verbs.diagnose`, of what is GoQueue's own: its schema, history, workers and jobs."""

from __future__ import annotations

import json
import re
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.model.admin import Level
from goqueue.store.postgres.verbs.diagnose import duration, finding, literal_list, more

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.admin import Finding, SchemaStatus
    from goqueue.store.postgres.statement import Rows
    from goqueue.store.postgres.verbs.diagnose import Limits

MIGRATE: Final = "run `goqueue db migrate`"
_TABLE: Final = re.compile(r"^CREATE TABLE goqueue\.(\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN: Final = re.compile(r"^    ([a-z_]\w*) ", re.MULTILINE)
_KEY: Final = re.compile(r"^    CONSTRAINT (\w+) (?:PRIMARY KEY|UNIQUE) ", re.MULTILINE)
_INDEX: Final = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\w+) ON (?:ONLY )?goqueue\.(\w+) .*;$", re.MULTILINE)
_DAY: Final = re.compile(r"^job_history_(\d{8})$")


class Structure(msgspec.Struct, frozen=True):
    """What a database with the present schema has."""

    columns: dict[str, frozenset[str]]
    """By table."""
    indexes: dict[str, tuple[str, str]]
    """By name: its table, and the statement that makes it ("" for a key, which is part of its table)."""


def expected() -> Structure:
    """Read the schema's snapshot, which is what the migrations lead to."""
    text = (files("goqueue.store.postgres") / "schema.sql").read_text(encoding="utf-8")
    columns, indexes = {}, {}
    for table, body in _TABLE.findall(text):
        columns[table] = frozenset(_COLUMN.findall(body)) - {"CONSTRAINT"}
        indexes.update(dict.fromkeys(_KEY.findall(body), (table, "")))
    for match in _INDEX.finditer(text):
        indexes[match[1]] = (match[2], match[0].replace(" ON ONLY ", " ON "))
    return Structure(columns, indexes)


def schema_version(status: SchemaStatus) -> Finding:
    """Compare the schema with the one that this program needs."""
    text = f"the database has schema {status.current}, this GoQueue needs {status.target}"
    if status.current > status.target:
        return finding("schema_version", Level.ERROR, text, "upgrade GoQueue here: a newer one has migrated")
    if status.pending:
        text = "the database has no GoQueue schema" if status.current == 0 else text
        return finding("schema_version", Level.ERROR, text, f"{MIGRATE} (`goqueue db sql` prints what it does)")
    return finding("schema_version", Level.OK, text)


def structure(rows: Rows, wanted: Structure) -> list[Finding]:
    """Name tables, columns and indexes that are missing, and indexes that are not usable."""
    columns: dict[str, set[str]] = {}
    indexes: dict[str, tuple[str, bool]] = {}
    for kind, table, name, usable in rows:
        if kind == "index":
            indexes[name] = (table, usable)
        else:
            columns.setdefault(table, set()).update({name} if kind == "column" else ())
    missing = [table for table in wanted.columns if table not in columns]
    for table, names in sorted(wanted.columns.items()):
        missing += [f"{table}.{name}" for name in sorted(names - columns.get(table, names))]
    found = []
    if missing:
        do = "somebody has changed the schema by hand: restore it from a backup, or make what schema.sql shows"
        found.append(finding("tables", Level.ERROR, f"missing: {literal_list(missing)}", do))
    else:
        found.append(finding("tables", Level.OK, f"all {len(wanted.columns)} tables have their columns"))
    found.append(_indexes(indexes, wanted))
    return found


def _indexes(there: dict[str, tuple[str, bool]], wanted: Structure) -> Finding:
    bad, do = [], []
    for name, (table, create) in sorted(wanted.indexes.items()):
        if name not in there:
            bad.append(f"index {name} of {table} is missing: what it is for reads the whole table")
            do.append(_made(create) or f"ALTER TABLE goqueue.{table} ADD its primary key, as schema.sql shows")
    for name, (table, usable) in sorted(there.items()):
        if not usable and name in wanted.indexes:
            bad.append(f"index {name} of {table} is not valid: writes keep it up, no query uses it")
            do.append(f"REINDEX INDEX CONCURRENTLY goqueue.{name}")
        elif not usable:
            bad.append(f"index {name} of {table} is not valid: a leftover of CREATE or REINDEX … CONCURRENTLY")
            do.append(f"DROP INDEX CONCURRENTLY goqueue.{name}")
    if bad:
        return finding("indexes", Level.ERROR, "; ".join(bad), "; ".join(do))
    own = sorted(name for name, (table, _) in there.items() if name not in wanted.indexes and table in wanted.columns)
    more_ = f"; not ours, and a cost to every claim: {literal_list(own)}" if own else ""
    return finding("indexes", Level.OK, f"all {len(wanted.indexes)} indexes are there and valid{more_}")


def _made(create: str) -> str:
    # A partitioned table takes no CONCURRENTLY.
    return create if " goqueue.job_history " in create else create.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)


def partitions(rows: Rows, needed: Sequence[date], today: date) -> Finding:
    """Look for history partitions that are missing, past, half detached, or in the way."""
    left = [row[0] for row in rows if row[1] is None]
    rows = [row for row in rows if row[1] is not None]
    days = {date.fromisoformat(match[1]): row for row in rows if (match := _DAY.search(row[0]))}
    parts, do, level = [], [], Level.OK
    if missing := [day for day in needed if day not in days]:
        first = "today's jobs end there: no job can end" if needed[0] in missing else "needed within days"
        level = Level.ERROR if needed[0] in missing else Level.WARNING
        parts.append(f"no partition for {literal_list([f'{day}' for day in missing])} ({first})")
        do.append(
            "`goqueue db migrate` as the owner makes them; a worker that leads does so every ten minutes, as owner"
        )
    if pending := [row[0] for row in rows if row[2]]:
        parts.append(f"a concurrent detach was cut short: {literal_list(pending)}")
        do += [f"ALTER TABLE goqueue.job_history DETACH PARTITION goqueue.{name} FINALIZE" for name in pending[:3]]
    if past := [row[0] for day, row in sorted(days.items()) if day < today and not row[2]]:
        parts.append(f"past and not dropped: {literal_list(past)}")
        do.append("look at the log of the leader (`history`): it needs the owner's role and no reader in its way")
    if default := [row[0] for row in rows if row[1] == "DEFAULT"]:
        parts.append(f"{default[0]} is a DEFAULT partition: it is read through for each new day, and never dropped")
        do.append(f"move its rows away, then ALTER TABLE goqueue.job_history DETACH PARTITION goqueue.{default[0]}")
    if parts:
        return finding("partitions", max(level, Level.WARNING, key=list(Level).index), "; ".join(parts), "; ".join(do))
    text = f"{len(rows)} history partitions, all of the {len(needed)} that are needed"
    if left:
        text += f"; detached by hand, or left by an older version, and never dropped by us: {literal_list(left)}"
    return finding("partitions", Level.OK, text)


def workers(rows: Rows, limits: Limits, version: str) -> list[Finding]:
    """Count workers, orphans, and look whether anybody does the upkeep."""
    alive, expired, running, orphans, since_s, missing, versions, elections, has_jobs = rows[0]
    elections = json.loads(elections)
    leading = [(name, holder) for name, holder, left_s in elections if left_s > 0]
    return [
        _workers(alive, expired, running, orphans, since_s, missing, has_jobs, limits),
        _leader(alive, leading, elections),
        _versions(versions, version),
    ]


def _workers(
    alive: int,
    expired: int,
    running: int,
    orphans: int,
    since_s: float | None,
    missing: int,
    has_jobs: bool,
    limits: Limits,
) -> Finding:
    text = f"{alive} alive, {expired} expired; {running} running jobs"
    if orphans and since_s is not None and since_s > limits.orphan_s:
        text += f", {orphans} of them of workers that expired {duration(since_s)} ago: nobody sweeps"
        return finding("workers", Level.ERROR, text, "start a `goqueue worker` or `goqueue server`, and see `leader`")
    if missing:
        text += f", {missing} of them of workers without a row"
        do = "the full sweep (duties.full_sweep_s) takes them back; see `leader` if it does not"
        return finding("workers", Level.WARNING, text, do)
    if not alive and has_jobs:
        return finding("workers", Level.WARNING, f"{text}, and there are jobs", "start a `goqueue worker`")
    return finding("workers", Level.OK, text)


def _leader(alive: int, leading: list[tuple[str, str]], elections: list[tuple[str, str, float]]) -> Finding:
    if leading:
        names = ", ".join(f"{name} by {holder}" for name, holder in leading)
        return finding("leader", Level.OK, f"upkeep is done: {names}")
    last = "; ".join(f"{name}: {holder}, lapsed {duration(-left_s)} ago" for name, holder, left_s in elections)
    text = f"nobody leads{f' ({last})' if last else ''}: no sweeps, no history upkeep"
    if alive:
        do = "see the logs of workers and servers for `lead`: the role needs its rights on goqueue.leader"
        return finding("leader", Level.ERROR, text, do)
    return finding("leader", Level.WARNING, text, "start a `goqueue worker` or `goqueue server`")


def _versions(versions: list[str], own: str) -> Finding:
    others = [version for version in versions if version and version != own]
    if not others:
        return finding("versions", Level.OK, f"all workers have version {own}")
    text = f"workers alive have versions {literal_list(versions)}, this is {own}"
    return finding("versions", Level.WARNING, text, "finish the upgrade: run one version everywhere")


def jobs(rows: Rows, limits: Limits) -> list[Finding]:
    """Name jobs that run far beyond their timeout."""
    if not rows:
        text = f"no job runs longer than {limits.timeout_times:g} times its timeout"
        return [finding("overdue", Level.OK, text)]
    text = "; ".join(f"{id} ({kind}) runs for {duration(age)}, timeout {t:g} s" for id, kind, age, t in rows[:3])
    do = "its worker lives and its handler ignores both its timeout and its stop: end that worker"
    return [finding("overdue", Level.WARNING, text + more(len(rows), 3), do)]


def queues(rows: Rows, limits: Limits) -> list[Finding]:
    """Name queues that are paused, and others whose jobs no worker takes."""
    paused = [row for row in rows if row[2] is not None]
    unserved = [row for row in rows if row[2] is None]
    return [_unserved(unserved, limits), _paused(paused, limits)]


def _unserved(rows: Rows, limits: Limits) -> Finding:
    if not rows:
        return finding("unserved_queues", Level.OK, "every queue with due jobs has a live worker")
    told = [f"{tenant}/{queue}: {_due(due, age_s, limits)}" for tenant, queue, _, _, due, age_s in rows]
    names = ",".join(row[1] for row in rows[:3])
    do = f"start a `goqueue worker` for them (--queues {names}), or see why it does not beat"
    text = f"no live worker takes jobs from {literal_list(told)}"
    return finding("unserved_queues", Level.WARNING, text, do)


def _paused(rows: Rows, limits: Limits) -> Finding:
    if not rows:
        return finding("pauses", Level.OK, "no queue is paused")
    told, waiting = [], False
    for tenant, queue, paused_s, served, due, age_s in rows:
        jobs_ = f", {_due(due, age_s, limits)}" if due else ""
        told.append(f"{tenant}/{queue} for {duration(paused_s)}{jobs_}{'' if served or not due else ', and no worker'}")
        waiting = waiting or due > 0
    text = f"paused: {literal_list(told)}"
    return finding(
        "pauses", Level.WARNING if waiting else Level.OK, text, "`goqueue queues resume NAME`, if that is over"
    )


def _due(due: int, age_s: float, limits: Limits) -> str:
    least = "at least " if due >= limits.due else ""
    return f"{least}{due:,} ready, the first for {duration(age_s)}"


def kinds(rows: Rows) -> Finding:
    """Name kinds whose jobs workers put off because they have no task for them."""
    if not rows:
        return finding("unknown_kinds", Level.OK, "no job was seen that was put off for want of a task of its kind")
    told = []
    for tenant, queue, kind, count, known in rows:
        who = "only some" if known else "none"
        told.append(f"{kind} in {tenant}/{queue} (at least {count:,}; {who} of its live workers have it)")
    do = (
        "start workers of the application that has these tasks (`goqueue check` lists what one has), "
        f"or `goqueue jobs cancel --kind {rows[0][2]}`"
    )
    text = f"put off for want of a task of their kind: {literal_list(told)}"
    return finding("unknown_kinds", Level.WARNING, text, do)
