"""Fixtures for all tests: a PostgreSQL for the session, a database of its own for each test."""

from __future__ import annotations

import random
from collections.abc import Iterator

import hypothesis
import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from tests.support.database import make_template, session_server, temporary_database

SEED_OPTION = "hypothesis_seed"

hypothesis.settings.register_profile("goqueue", deadline=None, print_blob=True)
hypothesis.settings.load_profile("goqueue")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A running server, not durable; GOQUEUE_TEST_PG_BIN chooses another version."""
    with session_server() as server:
        yield server


@pytest.fixture(scope="session")
def database_template(postgres_server: EmbeddedPostgres) -> str:
    """Name of the database with the schema that `database_url` is copied from."""
    return make_template(postgres_server)


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, database_template: str) -> Iterator[str]:
    """Url of this test's own database, with the current schema."""
    with temporary_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """Url of this test's own database, without a schema."""
    with temporary_database(postgres_server) as url:
        yield url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that `make quick` leaves it out without anybody's remembering."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of random tests here, so that it is always known and printed."""
    if getattr(config.option, SEED_OPTION, None) is None:
        setattr(config.option, SEED_OPTION, str(random.SystemRandom().randrange(2**32)))


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, first thing."""
    return _seed_text(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """The seed again, where one looks after a failure."""
    if exitstatus != 0:
        terminalreporter.write_line(_seed_text(terminalreporter.config))


def _seed_text(config: pytest.Config) -> str:
    seed = getattr(config.option, SEED_OPTION)
    return f"random tests: seed {seed} (again with --hypothesis-seed={seed})"
