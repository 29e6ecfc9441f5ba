"""`goqueue db grant`: what each kind of database role may do, and no more.

Rights on a partitioned table are those of its parent: `job_history` needs them once, and never again for a new day.
Wake-ups (`NOTIFY`, `LISTEN`) need no right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from goqueue.model.errors import GoQueueError, InvalidInput, PermissionDenied, SchemaMissing
from goqueue.store.postgres._async.database import AsyncDatabase
from goqueue.store.postgres.errors import DriverError, translate
from goqueue.store.postgres.sql import query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from goqueue.settings import StoreSettings

OWNER: Final = "owner"
_WHO: Final = "connect as its owner or a superuser (--url)"

_REPLACED: Final = "run_at, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta, group_key"
_REPLACED_LIMITS: Final = "flags, retry, schedule_to_start_s, deadline_at, expire_at, reason"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"

RIGHTS: Final[Mapping[str, Mapping[str, str]]] = {
    # All that workers and servers do; changes of the schema, and with them history partitions, are the owner's.
    "worker": {
        "job": _ALL,
        "job_history": _ALL,
        "job_key": _ALL,
        "queue_pause": _ALL,
        "worker": _ALL,
        "leader": _ALL,
        "record": _ALL,
        "schema_migration": "SELECT",
    },
    # Enqueue and read. UPDATE is for on_conflict=replace; DELETE for taking back, in the same transaction, what a blind
    # retry has inserted twice, and for keys whose hold has ended.
    "enqueuer": {
        "job": f"SELECT, INSERT, UPDATE ({_REPLACED}, {_REPLACED_LIMITS}), DELETE",
        "job_history": "SELECT",
        "job_key": "SELECT, INSERT, DELETE",
        "worker": "SELECT",
        "schema_migration": "SELECT",
    },
    # Everything but `record`, which has answers to other people's requests.
    "reader": {
        "job": "SELECT",
        "job_history": "SELECT",
        "job_key": "SELECT",
        "queue_pause": "SELECT",
        "worker": "SELECT",
        "leader": "SELECT",
        "schema_migration": "SELECT",
    },
}


async def grant(url: str, settings: StoreSettings, role: str, access: str, *, dry_run: bool) -> list[str]:
    """Give ``role`` its rights in one transaction, and return the statements; with ``dry_run`` only these.

    ``access`` is ``owner`` or a key of `RIGHTS`. Raises `InvalidInput` for a role that does not exist, `SchemaMissing`,
    and `PermissionDenied` if the connecting user may not grant this.
    """
    connection = await AsyncDatabase(url, settings).connect()
    try:
        cursor = await connection.execute(query("grant_check"), (role,))
        row = await cursor.fetchone()
        exists, database, may_grant = row if row is not None else (False, "", False)
        if not exists:
            raise InvalidInput(f"there is no role {role}: make it first (CREATE ROLE {role} LOGIN), then grant")
        if not may_grant:
            raise PermissionDenied(f"only the owner of the schema can grant rights on it: {_WHO}")
        cursor = await connection.execute(query("schema_tables"))
        tables = [name for (name,) in await cursor.fetchall()]
        if not tables and access != OWNER:
            raise SchemaMissing("the database has no GoQueue schema to grant rights on: run `goqueue db migrate`")
        cursor = await connection.execute(query("schema_functions"))
        functions = [name for (name,) in await cursor.fetchall()]
        cursor = await connection.execute(query("schema_types"))
        types = [name for (name,) in await cursor.fetchall()]
        composed = _statements(sql.Identifier(role), access, sql.Identifier(database), tables, functions, types)
        statements = [statement.as_string(connection) for statement in composed]
        if not dry_run:
            async with connection.transaction():
                for statement in composed:
                    await connection.execute(statement)
    except DriverError as e:
        raise _explained(translate(e)) or e from e
    finally:
        await connection.close()
    return statements


def _statements(
    role: sql.Identifier,
    access: str,
    database: sql.Identifier,
    tables: list[str],
    functions: list[LiteralString],
    types: list[str],
) -> list[sql.Composed]:
    connect = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role)
    if access == OWNER:
        create = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, role)
        if not tables:  # it will make the schema itself
            return [connect, create]
        owned = [
            sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier("goqueue", table), role) for table in tables
        ]
        # Anybody may call the functions: they do what the caller's own rights on the tables allow.
        owned += [sql.SQL("ALTER FUNCTION {} OWNER TO {}").format(sql.SQL(name), role) for name in functions]
        owned += [sql.SQL("ALTER TYPE {} OWNER TO {}").format(sql.Identifier("goqueue", name), role) for name in types]
        return [connect, create, sql.SQL("ALTER SCHEMA goqueue OWNER TO {}").format(role), *owned]
    granted = [
        sql.SQL("GRANT {} ON goqueue.{} TO {}").format(
            sql.SQL(rights),  # from the constant above
            sql.Identifier(table),
            role,
        )
        for table, rights in RIGHTS[access].items()
    ]
    return [connect, sql.SQL("GRANT USAGE ON SCHEMA goqueue TO {}").format(role), *granted]


def _explained(error: GoQueueError | None) -> GoQueueError | None:
    """`translate` advises to run what has just been run: say who can."""
    if isinstance(error, PermissionDenied):
        reason = str(error).split(": grant the role", 1)[0]
        return PermissionDenied(f"{reason}: {_WHO}")
    return error
