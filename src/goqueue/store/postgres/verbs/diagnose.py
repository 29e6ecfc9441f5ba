"""What the figures of a look at the database mean: pure functions from rows to findings. Thresholds are `Limits`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.model.admin import Finding, Level

if TYPE_CHECKING:
    from goqueue.store.postgres.statement import Rows

OLDEST_KNOWN: Final = 15
NEWEST_KNOWN: Final = 18
_DURABLE: Final = ("on", "remote_apply", "remote_write", "local")
SHOWN: Final = 5
"""Holders, sessions, jobs that a text names; the rest is counted."""
_SOURCES: Final = {
    "client": "take synchronous_commit out of the URL's options and of PGOPTIONS",
    "command line": "start the server without synchronous_commit on its command line",
    "configuration file": "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()",
}
"""What to do about a setting, by where it comes from. Those of roles and databases are listed one by one."""
_STRONG: Final = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """From when on something is worth a warning."""

    snapshot_s: float = 60.0
    snapshot_xids: int = 100_000
    """For holders without an age in seconds: slots, standbys, sessions that are hidden from us."""
    lock_s: float = 60.0
    """A strong lock, or a session that is idle inside a transaction with locks on our tables."""
    dead_rows: int = 50_000
    bytes_per_job: int = 20_000
    bloat_bytes: int = 256 * 1024 * 1024
    connections_share: float = 0.8
    orphan_s: float = 15.0
    """Three sweeps by default."""
    timeout_times: float = 10.0
    clock_s: float = 2.0
    names: int = 2_000
    """Queues that a look finds; those that come after them by name are not seen."""
    lanes: int = 50
    """Lanes of a queue (priority and group) that a look goes into."""
    due: int = 1_000
    """Due jobs of a queue that are counted."""
    around: int = 50
    """Jobs of a lane that are looked at on either side of now, `of_queue` of them in a queue, and `sample` in all: no
    queue may hide the others."""
    of_queue: int = 2_000
    sample: int = 100_000
    rows: int = 1_000
    """Rows that one look reads, at most."""


def snapshots(rows: Rows, limits: Limits) -> Finding:
    """Name the holders of the oldest snapshot."""
    holders = [_Holder(*row) for row in rows]
    bad = [holder for holder in holders if holder.is_old(limits)]
    if not bad:
        seen = f"; the oldest: {holders[0].told()}" if holders else ""
        return finding("oldest_snapshot", Level.OK, f"no old snapshot keeps dead rows from being vacuumed away{seen}")
    text = "; ".join(holder.told() for holder in bad[:SHOWN]) + more(len(bad))
    do = "; ".join(dict.fromkeys(holder.remedy() for holder in bad[:SHOWN]))
    why = "dead rows stay while it lives, and every claim walks over them"
    return finding("oldest_snapshot", Level.WARNING, f"{text}: {why}", do)


class _Holder(msgspec.Struct, frozen=True):
    source: str
    name: str
    application: str | None
    user: str | None
    client: str | None
    state: str
    age_s: float | None
    xids: int | None
    query: str | None
    idle: bool
    locks: bool

    def is_old(self, limits: Limits) -> bool:
        if self.source == "slot" and self.state == "inactive":
            return True  # it will not move by itself
        if self.age_s is not None:
            return self.age_s >= limits.snapshot_s
        return (self.xids or 0) >= limits.snapshot_xids

    def told(self) -> str:
        old = [] if self.age_s is None else [duration(self.age_s)]
        old += [] if self.xids is None else [f"{self.xids:,} transactions old"]
        aged = ", ".join(old) or "of hidden age"
        match self.source:
            case "session" | "standby":
                who = f"{self.source} pid {self.name} ({self.application or 'no application_name'}, user {self.user}, "
                who += f"client {self.client}, {self.state}{', locks on our tables' if self.locks else ''})"
                query = "" if not self.query else f", its last query: {' '.join(self.query.split())[:100]}"
                return f"{who} {aged}{query}"
            case "prepared":
                return f"prepared transaction {self.name!r} (user {self.user}) {aged}"
            case _:
                return f"replication slot {self.name!r} ({self.state}) {aged}"

    def remedy(self) -> str:
        match self.source:
            case "session" if self.idle:
                return f"commit or roll back there, or SELECT pg_terminate_backend({self.name})"
            case "session":
                return f"let it finish, or SELECT pg_terminate_backend({self.name})"
            case "standby":
                return f"end the long query on the standby {self.application}, or set hot_standby_feedback = off there"
            case "prepared":
                return f"COMMIT PREPARED {_literal(self.name)} or ROLLBACK PREPARED {_literal(self.name)}"
            case _:
                name = _literal(self.name)
                return f"start its consumer, or SELECT pg_drop_replication_slot({name})"


def tables(rows: Rows, limits: Limits) -> list[Finding]:
    """Dead rows, sizes, autovacuum, wraparound, and tables that a crash empties."""
    live, dead, table, indexes, vacuumed_s, own, unlogged, autovacuum, counts, age_db, age, freeze = rows[0]
    last = "never" if vacuumed_s is None else f"{duration(vacuumed_s)} ago"
    size = f"table {size_(table)}, indexes {size_(indexes)}"
    text = f"job: {live:,} live and {dead:,} dead rows, last vacuumed {last}; {size}"
    found = []
    if dead >= max(limits.dead_rows, live):
        do = "look who holds an old snapshot (oldest_snapshot) and whether autovacuum runs; then VACUUM goqueue.job"
        found.append(finding("dead_tuples", Level.WARNING, text, do))
    elif table + indexes >= limits.bloat_bytes and table + indexes > limits.bytes_per_job * max(1, live):
        do = (
            "REINDEX TABLE CONCURRENTLY goqueue.job; the table itself shrinks only by VACUUM FULL, which stops all work"
        )
        found.append(finding("dead_tuples", Level.WARNING, f"{text}: far more than its rows need", do))
    else:
        found.append(finding("dead_tuples", Level.OK, text))
    found.append(_autovacuum(autovacuum, counts, own))
    oldest = max(age_db, age)
    share = oldest / 2_147_483_648
    text = f"the oldest unfrozen row is {oldest:,} transactions old ({share:.0%} of what there is)"
    if oldest > 2 * freeze:
        do = "autovacuum cannot freeze: look who holds an old snapshot, then VACUUM FREEZE the oldest tables"
        found.append(finding("wraparound", Level.ERROR if share > 0.75 else Level.WARNING, text, do))
    else:
        found.append(finding("wraparound", Level.OK, text))
    if unlogged:
        do = "; ".join(f"ALTER TABLE goqueue.{name} SET LOGGED" for name in unlogged)
        found.append(finding("unlogged", Level.ERROR, f"a crash empties unlogged tables: {', '.join(unlogged)}", do))
    return found


def _autovacuum(server: bool, counts: bool, own: str | None) -> Finding:
    off, do = [], []
    if not server:
        off.append("autovacuum is off for the whole server")
        do.append("ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()")
    if not counts:
        off.append("track_counts is off, so autovacuum does not know when to run")
        do.append("ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf()")
    if own in ("off", "false", "no", "0"):
        off.append("autovacuum is off for goqueue.job")
        do.append("ALTER TABLE goqueue.job RESET (autovacuum_enabled)")
    if off:
        return finding("autovacuum", Level.WARNING, "; ".join(off), "; ".join(do))
    return finding("autovacuum", Level.OK, "autovacuum is on")


def server(rows: Rows) -> list[Finding]:
    """Version, primary or standby, and what our role may see."""
    number, name, standby, read_only, role, sees, hidden = rows[0]
    major = number // 10_000
    found = []
    if major < OLDEST_KNOWN:
        text = f"PostgreSQL {name} is older than {OLDEST_KNOWN}, the oldest that GoQueue works on"
        found.append(finding("server_version", Level.ERROR, text, f"upgrade to {OLDEST_KNOWN} to {NEWEST_KNOWN}"))
    elif major > NEWEST_KNOWN:
        text = f"PostgreSQL {name} is newer than {NEWEST_KNOWN}, the newest that this GoQueue was tried on"
        found.append(finding("server_version", Level.WARNING, text, "upgrade GoQueue when a version knows it"))
    else:
        found.append(finding("server_version", Level.OK, f"PostgreSQL {name}"))
    if standby:
        do = "let the URL lead to the primary (target_session_attrs=read-write)"
        found.append(finding("primary", Level.ERROR, "this server is a standby: nothing can be written", do))
    elif read_only:
        do = "find out who set default_transaction_read_only = on for the server, database or role, and reset it"
        found.append(finding("primary", Level.ERROR, "transactions are read-only by default", do))
    else:
        found.append(finding("primary", Level.OK, "the server takes writes"))
    if sees or not hidden:
        found.append(finding("privileges", Level.OK, f"role {role} sees what it needs for this report"))
    else:
        text = f"role {role} does not see what {hidden} sessions of other roles do, nor since when"
        do = f"GRANT pg_read_all_stats TO {_identifier(role)}"
        found.append(finding("privileges", Level.WARNING, text, do))
    return found


def durability(rows: Rows) -> Finding:
    """Say what a commit promises here."""
    fsync, full_pages, commit, source, overrides, names, synchronous, standbys = rows[0]
    bad, do = [], []
    if not fsync:
        bad.append("fsync = off: a crash of the machine can destroy the whole database")
        do.append("ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()")
    if not full_pages:
        bad.append("full_page_writes = off: a crash can leave torn pages")
        do.append("ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()")
    if commit not in _DURABLE:
        bad.append(
            f"synchronous_commit = {commit} (by {source}): a crash loses jobs that were acknowledged just before"
        )
    overrides = json.loads(overrides)
    for role, database, value in overrides:
        if value not in _DURABLE:
            to = " ".join([*([f"role {role}"] if role else []), *([f"database {database}"] if database else [])])
            bad.append(f"synchronous_commit = {value} for {to}: what it enqueues can be lost by a crash")
            do.append(_reset(role, database))
    if commit not in _DURABLE and source in _SOURCES:
        do.append(_SOURCES[source])
    if names and not synchronous:
        bad.append(
            f"synchronous_standby_names = {names!r} and no such standby is connected: every commit waits for one"
        )
        do.append("bring the standby back, or ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")
    if bad:
        return finding("durability", Level.ERROR, "; ".join(bad), "; ".join(dict.fromkeys(do)))
    if names and commit in ("on", "remote_apply"):
        kept = f"and the loss of the primary, when one of {synchronous} synchronous standbys lives"
    elif standbys:
        kept = f"but perhaps not the loss of its disk: {standbys} standbys follow asynchronously"
    else:
        kept = "but not the loss of its disk: no standby follows"
    text = f"an acknowledged job survives any crash of the server, {kept} (synchronous_commit = {commit}, by {source})"
    return finding("durability", Level.OK, text)


def _reset(role: str, database: str) -> str:
    who = f"ROLE {_identifier(role)}" if role else "ROLE ALL"
    match role, database:
        case "", name if name:
            return f"ALTER DATABASE {_identifier(name)} RESET synchronous_commit"
        case _, "":
            return f"ALTER {who} RESET synchronous_commit"
        case _:
            return f"ALTER {who} IN DATABASE {_identifier(database)} RESET synchronous_commit"


def connections(rows: Rows, limits: Limits) -> Finding:
    """Compare connections with what is allowed."""
    clients, ours, most, reserved, database_most, database_used, role_most, role_used = rows[0]
    uses = [(clients, most - reserved, f"server's (max_connections {most}, {reserved} reserved)")]
    uses += [(database_used, database_most, "database's")] if database_most >= 0 else []
    uses += [(role_used, role_most, "role's")] if role_most is not None and role_most >= 0 else []
    used, allowed, whose = max(uses, key=lambda use: use[0] / max(1, use[1]))
    text = f"{used} of the {whose} {allowed} connections are in use, {ours} by GoQueue"
    if used >= limits.connections_share * allowed:
        do = "lower store.pool_max or the number of processes, put a pooler in between, or raise the limit"
        return finding("connections", Level.ERROR if used >= allowed else Level.WARNING, text, do)
    return finding("connections", Level.OK, text)


def locks(rows: Rows, limits: Limits) -> Finding:
    """Name sessions that make others wait for our tables, and those that wait."""
    waiting = [row for row in rows if not row[7]]
    strong = [row for row in rows if row[7] and row[5] in _STRONG and (row[4] or 0) >= limits.lock_s]
    blockers = {pid for row in waiting for pid in row[8]}
    idle = [row for row in rows if row[7] and row[9] and row not in strong and (row[4] or 0) >= limits.lock_s]
    if not (waiting or strong or idle):
        return finding("locks", Level.OK, "nobody waits for a lock on our tables, and nobody keeps one")
    parts = [f"pid {row[0]} waits for {row[5]} on {row[6]}, behind {_pids(row[8])}" for row in waiting[:SHOWN]]
    parts += [_kept(row) for row in [*strong, *idle][:SHOWN]]
    ends = sorted({*blockers, *(row[0] for row in [*strong, *idle])})[:SHOWN]
    do = "let them commit, or " + "; ".join(f"SELECT pg_terminate_backend({pid})" for pid in ends)
    text = "; ".join(parts) + more(len(waiting) + len(strong) + len(idle), len(parts))
    return finding("locks", Level.WARNING, text, do if ends else "look again: the wait may have been a short one")


def _kept(row: tuple[object, ...]) -> str:
    pid, application, user, state, age_s, mode, table = row[:7]
    since = f" for {duration(age_s)}" if isinstance(age_s, float) else ""
    return f"pid {pid} ({application or 'no application_name'}, user {user}, {state}) keeps {mode} on {table}{since}"


def _pids(pids: list[int]) -> str:
    return ", ".join(f"pid {pid}" for pid in pids) or "others that were first"


def literal_list(names: list[str]) -> str:
    """Name some, and count the rest."""
    return ", ".join(names[:SHOWN]) + more(len(names))


def duration(seconds: float) -> str:
    """Tell a duration for people."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_(count: float) -> str:
    """Tell a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def more(count: int, shown: int = SHOWN) -> str:
    return f" and {count - shown} more" if count > shown else ""


def finding(check: str, level: Level, text: str, do: str = "") -> Finding:
    return Finding(check=check, level=level, text=text, do=do)
