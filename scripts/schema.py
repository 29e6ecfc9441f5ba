"""The schema as it stands after all migrations, in SQL, read back from the catalogs of a real database.

The snapshot (`src/goqueue/store/postgres/schema.sql`) is there to be read and compared: a test and `make check` fail when
the migrations lead to something else. History partitions of single days are left out: they come and go.
"""

from __future__ import annotations

from typing import Any

import psycopg

HEADER = """\
-- The schema that the migrations lead to, read back from the catalogs. Generated: run `make generate` after a new migration.
-- It is here to be read; databases are made by `goqueue db migrate`.
"""

_TABLES = """
SELECT c.oid, c.relname, c.relkind, pg_get_partkeydef(c.oid), c.reloptions, obj_description(c.oid),
       pg_get_expr(c.relpartbound, c.oid), (SELECT p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = c.oid)
FROM pg_class c WHERE c.relnamespace = 'goqueue'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname !~ '_[0-9]{8}$'
ORDER BY c.relname
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(nullif(co.collname, 'default'), ''), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s AND contype IN ('p', 'u', 'c', 'f') ORDER BY conname
"""
_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = %s AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid) ORDER BY 1
"""
_FUNCTIONS = """
SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = 'goqueue'::regnamespace ORDER BY p.proname, p.oid::regprocedure::text
"""


def snapshot(connection: psycopg.Connection[Any]) -> str:
    """Return the schema of the database that ``connection`` is connected to."""
    connection.execute("SET search_path = pg_catalog")
    parts = [HEADER, "CREATE SCHEMA goqueue;\n"]
    for oid, name, _, partition_key, options, comment, bound, parent in connection.execute(_TABLES).fetchall():
        parts.append(_table(connection, oid, name, partition_key, options, bound, parent))
        if comment:
            parts.append(f"COMMENT ON TABLE goqueue.{name} IS {_literal(comment)};\n")
        if parent is None:
            parts += [f"{row[0]};\n" for row in connection.execute(_INDEXES, [oid]).fetchall()]
    parts += [f"{row[0].strip()};\n" for row in connection.execute(_FUNCTIONS).fetchall()]
    return "\n".join(parts)


def _table(
    connection: psycopg.Connection[Any],
    oid: int,
    name: str,
    partition_key: str | None,
    options: list[str] | None,
    bound: str | None,
    parent: str | None,
) -> str:
    if parent is not None:
        return f"CREATE TABLE goqueue.{name} PARTITION OF goqueue.{parent} {bound};\n"
    lines = []
    comments = []
    for column, kind, collation, not_null, default, comment in connection.execute(_COLUMNS, [oid]).fetchall():
        line = f"    {column} {kind}"
        line += f' COLLATE "{collation}"' if collation else ""
        line += f" DEFAULT {default}" if default else ""
        line += " NOT NULL" if not_null else ""
        lines.append(line)
        if comment:
            comments.append(f"COMMENT ON COLUMN goqueue.{name}.{column} IS {_literal(comment)};\n")
    lines += [f"    CONSTRAINT {row[0]} {row[1]}" for row in connection.execute(_CONSTRAINTS, [oid]).fetchall()]
    text = f"CREATE TABLE goqueue.{name} (\n" + ",\n".join(lines) + "\n)"
    text += f" PARTITION BY {partition_key}" if partition_key else ""
    text += " WITH (" + ", ".join(sorted(options)) + ")" if options else ""
    return text + ";\n" + "".join("\n" + c for c in comments)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
