"""Migrations: from nothing to the snapshot, once, by many at once, refused when they do not fit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from goqueue.model.errors import SchemaError, SchemaMissing, SchemaOutdated, SchemaTooNew
from goqueue.store.postgres import PostgresStore, migrate
from scripts.schema import snapshot

SNAPSHOT = Path(migrate.__file__).parent / "schema.sql"


async def migrated(url: str) -> PostgresStore:
    store = PostgresStore(url)
    await store.migrate()
    return store


async def test_the_migrations_lead_to_the_snapshot(empty_database_url: str) -> None:
    store = await migrated(empty_database_url)
    await store.close()
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        assert snapshot(connection) == SNAPSHOT.read_text()


async def test_migrating_again_changes_nothing(empty_database_url: str) -> None:
    store = await migrated(empty_database_url)
    first = await store.schema()
    second = await store.migrate()
    await store.close()
    assert (first.current, first.pending, first.applied_at) == (migrate.TARGET, (), second.applied_at)


async def test_many_may_migrate_at_once(empty_database_url: str) -> None:
    stores = [PostgresStore(empty_database_url) for _ in range(6)]
    statuses = await asyncio.gather(*(store.migrate() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert {status.current for status in statuses} == {migrate.TARGET}
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT version FROM goqueue.schema_migration ORDER BY version").fetchall()
    assert [row[0] for row in rows] == [version for version, _, _ in migrate.MIGRATIONS]


async def test_the_script_does_the_same_as_the_command(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(migrate.script().encode())
        assert snapshot(connection) == SNAPSHOT.read_text()
    store = PostgresStore(empty_database_url)
    status = await store.schema()
    await store.close()
    assert (status.current, status.pending) == (migrate.TARGET, ())


async def test_an_empty_database_says_what_to_do(empty_database_url: str) -> None:
    store = PostgresStore(empty_database_url)
    with pytest.raises(SchemaMissing, match="goqueue db migrate"):
        await store.open()
    status = await store.schema()
    await store.close()
    assert (status.current, len(status.pending)) == (0, len(migrate.MIGRATIONS))


async def test_a_newer_schema_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO goqueue.schema_migration (version, name, checksum) VALUES (%s, 'later', '')",
            [migrate.TARGET + 1],
        )
    store = PostgresStore(database_url)
    with pytest.raises(SchemaTooNew, match="upgrade this process"):
        await store.open()
    with pytest.raises(SchemaTooNew, match="upgrade this process"):
        await store.migrate()
    await store.close()


def test_an_older_schema_is_refused() -> None:
    with pytest.raises(SchemaOutdated if migrate.TARGET > 1 else SchemaMissing, match="goqueue db migrate"):
        migrate.check(migrate.TARGET - 1)


async def test_a_changed_migration_is_found_out(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE goqueue.schema_migration SET checksum = 'another' WHERE version = 1")
    store = PostgresStore(database_url)
    with pytest.raises(SchemaError, match="another text"):
        await store.migrate()
    await store.close()


async def test_a_migration_that_fails_leaves_nothing(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (2, "0002_broken", "CREATE TABLE goqueue.half (a integer); SELECT no_such_column FROM goqueue.job;")
    monkeypatch.setattr(migrate, "MIGRATIONS", [migrate.MIGRATIONS[0], broken])
    monkeypatch.setattr(migrate, "TARGET", 2)
    store = PostgresStore(empty_database_url)
    with pytest.raises((SchemaError, psycopg.Error)):
        await store.migrate()
    status = await store.schema()
    await store.close()
    assert (status.current, status.pending) == (1, ("0002_broken",))
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute("SELECT to_regclass('goqueue.half') IS NULL").fetchone()
    assert row == (True,)
