"""Every example of the page about transactions runs, as it stands there."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import django
import psycopg
import pytest
from django.conf import settings
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

from goqueue import configuration as configuration_module
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres._sync.jobs import PostgresJobs
from goqueue.testing.worker import running_worker
from tests.support.processes import until

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "transactions.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
ORDERS = 7
IMPORTED = (PostgresJobs, PostgresStore)
"""Imported before two threads would do it at once: Python 3.11 cannot parse in two threads, and pytest has it parse."""


def point_django_at(url: str) -> None:
    """What a project's settings do; other tests of this process may have configured it for themselves."""
    given = conninfo_to_dict(url)
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    database = {"ENGINE": "django.db.backends.postgresql", **{names[k]: v for k, v in given.items() if k in names}}
    if not settings.configured:
        settings.configure(USE_TZ=True)
    django.setup()
    connections.settings = connections.configure_settings({"default": database})
    if hasattr(connections._connections, "default"):
        del connections["default"]


@pytest.fixture
def shop(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("GOQUEUE_URL", database_url)
    configuration_module.configuration.cache_clear()
    point_django_at(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE payments (id int)")
    (tmp_path / "orders_shop.py").write_text("\n\n".join(text for language, text in BLOCKS if language == "python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    module = importlib.import_module("orders_shop")
    yield module
    module.client.close()
    module.engine.dispose()
    connections["default"].close()
    del sys.modules["orders_shop"]
    configuration_module.configuration.cache_clear()


def jobs(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT (args ->> 'order')::int FROM goqueue.job ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def test_each_kind_of_connection_stores_both_or_neither(shop: ModuleType, database_url: str) -> None:
    functions = [function for name, function in vars(shop).items() if name.startswith("order_")]
    assert len(functions) == ORDERS
    with asyncio.Runner() as runner:

        def call(function: Callable[[int], Any], id: int) -> None:
            if inspect.iscoroutinefunction(function):
                runner.run(function(id))
            else:
                function(id)

        for id, function in enumerate(functions):
            call(function, id)
            assert jobs(database_url) == list(range(id + 1)), function
            with pytest.raises(Exception, match=r"duplicate key|UniqueViolation"):
                call(function, id)
            assert jobs(database_url) == list(range(id + 1)), function
        runner.run(shop.async_client.close())
        runner.run(shop.async_engine.dispose())


def test_the_sql_runs(shop: ModuleType, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for language, text in BLOCKS:
            if language == "sql":
                connection.execute(text.encode())
    assert jobs(database_url) == [7, 8, 9, 10, 1000]


def test_a_handler_completes_its_job_in_its_own_transaction(shop: ModuleType, database_url: str) -> None:
    handles = [shop.client.enqueue(task.job(n)) for n, task in enumerate((shop.settle_order, shop.settle_order_async))]
    with running_worker(shop.app, database_url):
        assert until(lambda: all(str(handle.state()) == "completed" for handle in handles))
    assert [handle.result() for handle in handles] == ["order 0 is paid", "order 1 is paid"]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT id FROM payments ORDER BY id").fetchall() == [(0,), (1,)]
