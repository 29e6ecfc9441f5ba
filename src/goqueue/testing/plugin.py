"""pytest fixtures. pytest finds this module by itself (entry point ``goqueue``); it imports nothing until it is used.

``goqueue_app``: the application under test. By default the one that the configuration names (``[tool.goqueue] app``);
a suite may define a fixture of the same name instead.
``goqueue_sandbox``: a `Sandbox` of it, new for each test.
``goqueue_postgres_url``: a fresh database with the schema on a real PostgreSQL, for each test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from goqueue.tasks.app import GoQueue
    from goqueue.testing.sandbox import Sandbox


@pytest.fixture
def goqueue_app() -> GoQueue:
    """The application that the configuration names."""
    from goqueue.configuration import configuration
    from goqueue.engine.executors.home import import_app

    named = configuration().app
    if named is None:
        pytest.fail(
            "which application? Name it ([tool.goqueue] app = 'module:app' in pyproject.toml),"
            " or define a fixture goqueue_app that returns it",
            pytrace=False,
        )
    return import_app(named)


@pytest.fixture
def goqueue_sandbox(goqueue_app: GoQueue) -> Iterator[Sandbox]:
    """A sandbox of the application: a store in memory, and a clock that the test moves."""
    from goqueue.testing import Sandbox

    with Sandbox(goqueue_app) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def goqueue_postgres_server() -> Iterator[tuple[str, str]]:
    """A running PostgreSQL, and the name of a database on it that has the schema."""
    from goqueue.testing.postgres import migrated_template, postgres_server

    with postgres_server() as url, migrated_template(url) as template:
        yield url, template


@pytest.fixture
def goqueue_postgres_url(goqueue_postgres_server: tuple[str, str]) -> Iterator[str]:
    """A database of this test's own, with the schema."""
    from goqueue.testing.postgres import temporary_database

    url, template = goqueue_postgres_server
    with temporary_database(url, template) as database:
        yield database
