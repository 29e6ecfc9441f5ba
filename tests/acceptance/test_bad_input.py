"""What users get wrong: each has an error of its own, which says what to do and shows no secret."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from goqueue import configuration
from goqueue.model.errors import (
    ConfigurationError,
    DatabaseMissing,
    DefinitionError,
    GoQueueError,
    InvalidInput,
    InvalidJob,
    InvalidUrl,
    LoginRefused,
    NotConfigured,
    SchemaMissing,
    StoreUnavailable,
    UnknownOption,
)
from goqueue.tasks.app import GoQueue
from goqueue.tasks.middleware import Middleware
from goqueue.tasks.retry import RetryPolicy
from goqueue.wiring import AsyncClient, Client
from tests.support.database import POOLED

SECRET = "s3cret"
app = GoQueue()


@app.task
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def asked(url: str | None) -> GoQueueError:
    """What both clients say at their first use; it is the same."""
    with pytest.raises(GoQueueError) as sync, Client(app, url) as client:
        client.counts()

    async def ask() -> None:
        async with AsyncClient(app, url) as client:
            await client.counts()

    with pytest.raises(GoQueueError) as awaited:
        asyncio.run(ask())
    assert (type(sync.value), str(sync.value)) == (type(awaited.value), str(awaited.value))
    assert SECRET not in f"{sync.value!r} {sync.value.__cause__!r} {awaited.value!r} {awaited.value.__cause__!r}"
    return sync.value


@pytest.mark.parametrize(
    "url, said",
    [
        (f"mysql://me:{SECRET}@host/x", "by mysql://: use postgresql://user:password@host/database"),
        (f"postgresql+asyncpg://me:{SECRET}@host/x", r"by postgresql\+asyncpg://: leave out \+asyncpg: use"),
        (f"me:{SECRET}@host/x", "by a URL without a scheme: use postgresql://"),
        (f"me:{SECRET}@host/x://y", "by a URL without a scheme: use postgresql://"),
        (f"postgresql:/me:{SECRET}@host/x", "by a URL without a scheme: use postgresql://"),
        (f"postgresql://me:{SECRET}@host:port/x", "the URL"),
        (f"postgresql://me:{SECRET}@[::1/x", "the URL"),
        (f"postgresql://me:{SECRET}@host/x?no_such_option=1", "the URL"),
    ],
)
def test_a_wrong_url(url: str, said: str) -> None:
    error = asked(url)
    assert isinstance(error, InvalidUrl)
    assert error.code == "invalid_url"
    with pytest.raises(InvalidUrl, match=said):
        raise error


@pytest.mark.skipif(POOLED, reason="the pooler answers in PostgreSQL's place")
def test_a_wrong_password_or_role_or_database(database_url: str) -> None:
    known = urlsplit(database_url)
    place = f"{known.hostname}:{known.port}"
    wrong = asked(f"postgresql://{known.username}:{SECRET}@{place}{known.path}")
    assert isinstance(wrong, LoginRefused)
    assert "set user and password in the URL" in str(wrong)
    login = f"{known.username}:{quote(known.password or '')}"
    missing = asked(f"postgresql://{login}@{place}/nowhere")
    assert isinstance(missing, DatabaseMissing)
    assert "CREATE DATABASE" in str(missing)
    assert isinstance(missing, ConfigurationError)


def test_a_wrong_host() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = asked(f"postgresql://me:{SECRET}@127.0.0.1:{port}/x")
    assert isinstance(error, StoreUnavailable)
    assert f"PostgreSQL at 127.0.0.1:{port}/x did not answer: Connection refused" in str(error)


def test_a_database_without_the_schema(empty_database_url: str) -> None:
    error = asked(empty_database_url)
    assert isinstance(error, SchemaMissing)
    assert "run `goqueue db migrate`" in str(error)


def test_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOQUEUE_URL", raising=False)
    configuration.configuration.cache_clear()
    error = asked(None)
    configuration.configuration.cache_clear()
    assert isinstance(error, NotConfigured)
    assert "set GOQUEUE_URL" in str(error)
    assert "goqueue dev" in str(error)


@pytest.mark.parametrize(
    "give, said",
    [
        (lambda more: app.task(**more), r"@app.task has no option 'retries': do you mean max_attempts\?"),
        (lambda more: add.job(1).options(**more), r".options has no option 'retries': do you mean max_attempts\?"),
    ],
)
def test_an_unknown_option(give: Callable[[Any], object], said: str) -> None:
    with pytest.raises(UnknownOption, match=said) as error:
        give({"retries": 3})
    assert isinstance(error.value, DefinitionError)
    assert isinstance(error.value, TypeError)  # as Python has it
    with pytest.raises(UnknownOption, match=r"'zzz': there are: .*max_attempts"):
        give({"zzz": 3})


# -- calls that look right --------------------------------------------------------------------------


def test_a_task_is_no_job() -> None:
    client = Client(app, "postgresql://nobody@127.0.0.1:1/x")
    given: Any
    for given in (add, add(1), "add", None):
        with pytest.raises(InvalidJob, match=r"task\.job\(\.\.\.\) makes"):
            client.enqueue(given)
    one: Any = add.job(1)
    with pytest.raises(InvalidInput, match=r"enqueue\(job\) is for one"):
        client.enqueue_many(one)
    client.close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_url_is_no_application(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Client\(url=url\)") as told:
        kind(f"postgresql://me:{SECRET}@host/x")
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "name, meant",
    [("max_retries", "max_attempts"), ("countdown", "delay_s"), ("eta", "run_at"), ("timeout", "timeout_s")],
)
def test_options_by_their_names_elsewhere_are_told_by_ours(name: str, meant: str) -> None:
    with pytest.raises(UnknownOption, match=f"do you mean {meant}"):
        add.job(1).options(**{name: 3})  # type: ignore[arg-type]  # on purpose


def test_what_should_be_a_list_is_told_so() -> None:
    one: Any = Middleware()
    with pytest.raises(DefinitionError, match=r"middleware=\[Middleware\(\.\.\.\)\]"):
        GoQueue(middleware=one)
    cls: Any = ValueError
    with pytest.raises(DefinitionError, match=r"no_retry_on=\[ValueError\]"):
        RetryPolicy.fixed(1, no_retry_on=cls)


def test_a_lifespan_that_is_none_is_told_so() -> None:
    made: Any = 5
    with pytest.raises(DefinitionError, match="makes an async context manager"):
        GoQueue(lifespan=made)
    plain: Any = contextlib.nullcontext

    def with_application(app: GoQueue) -> None: ...

    asked: Any = with_application
    with contextlib.suppress(DefinitionError):
        GoQueue(lifespan=plain).live()
    with pytest.raises(DefinitionError, match="called without arguments"):
        GoQueue(lifespan=asked).live()
    number: Any = lambda: 5  # noqa: E731  as users write it
    with pytest.raises(DefinitionError, match=r"contextlib\.asynccontextmanager"):
        GoQueue(lifespan=number).live()
