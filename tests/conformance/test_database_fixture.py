"""The databases that tests get: their own, and gone afterwards."""

from __future__ import annotations

import time

import psycopg

from goqueue.cli.dev.embedded import EmbeddedPostgres
from tests.support.database import temporary_database


def test_each_database_is_its_own_and_is_dropped_under_a_connection(
    postgres_server: EmbeddedPostgres, database_template: str
) -> None:
    with (
        temporary_database(postgres_server, database_template) as one,
        temporary_database(postgres_server, database_template) as two,
    ):
        assert one != two
        left_open = psycopg.connect(one)
        left_open.execute("CREATE TABLE mine ()")
        left_open.commit()
        with psycopg.connect(two) as other:
            assert other.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    left_open.close()
    with psycopg.connect(postgres_server.url) as connection:
        rows = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'test\\_%'").fetchone()
    assert rows == (0,)


def test_text_is_utf8_and_sorts_by_code_point(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute("SELECT 'Z' < 'a', octet_length('é'), upper('é')").fetchone()
    assert row == (True, 2, "É")


def test_a_database_costs_little(postgres_server: EmbeddedPostgres, database_template: str) -> None:
    started = time.monotonic()
    with temporary_database(postgres_server, database_template):
        pass
    assert time.monotonic() - started < 5
