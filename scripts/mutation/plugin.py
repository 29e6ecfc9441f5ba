"""pytest, told to run against a copy of the package: makes sure that it does, and notes the first failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psycopg
import pytest

import goqueue
from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.store.postgres.sql import names, text
from tests.support.database import temporary_database

COPY: Final = Path(os.environ["MUTATION_COPY"])
INVALID: Final = 77
"""Exit code of a run whose statements PostgreSQL does not even accept: that proves nothing about tests."""


@pytest.fixture(scope="session", autouse=True)
def _valid_statements(postgres_server: EmbeddedPostgres, database_template: str) -> None:
    with (
        temporary_database(postgres_server, database_template) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        for name in names():
            statement = text(name)
            if statement.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
                try:
                    connection.execute(f"PREPARE p_{name} AS {statement}".encode())
                except psycopg.Error as error:
                    pytest.exit(f"{name}.sql is no statement any more: {error}", INVALID)


def pytest_configure() -> None:
    """Refuse to test anything but the copy."""
    if Path(goqueue.__file__).resolve().parent != COPY.resolve() / "goqueue":
        pytest.exit(f"{goqueue.__file__} was imported, not the copy in {COPY}", INVALID)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the first failure beside the copy."""
    killer = COPY / "killer"
    if report.failed and not killer.exists():
        killer.write_text(report.nodeid.rpartition("::")[2], encoding="utf-8")
