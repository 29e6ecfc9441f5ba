"""Why there is no connection: said as it is, with what to do about it, and without a password."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import quote

import psycopg
import pytest

from goqueue.model.errors import ConfigurationError, GoQueueError, PermissionDenied, StoreUnavailable
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres._sync.jobs import PostgresJobs
from goqueue.store.postgres.attempts import Attempts

SETTINGS = StoreSettings(connect_timeout_s=1.0)
SECRET = "s3cret/qu1et:m1ne"

Ask = Callable[[PostgresStore], Awaitable[object]]
WAYS: dict[str, Ask] = {
    "open": lambda store: store.open(),
    "ping": lambda store: store.ping(),
    "schema": lambda store: store.schema(),
    "diagnose": lambda store: store.diagnose(),
    "migrate": lambda store: store.migrate(),
}


def parts(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(url).items()}


def at(url: str, *, user: str | None = None, password: str | None = None, database: str | None = None) -> str:
    """The same server, asked by another user or for another database."""
    known = parts(url)
    login = f"{quote(user or known['user'])}:{quote(known['password'] if password is None else password, safe='')}"
    return f"postgresql://{login}@{known['host']}:{known['port']}/{database or known['dbname']}"


async def refused(url: str, ask: Ask) -> GoQueueError:
    store = PostgresStore(url, settings=SETTINGS)
    try:
        with pytest.raises(GoQueueError) as caught:
            await ask(store)
    finally:
        await store.close()
    for word in re.split(r"\W", SECRET):
        assert word not in f"{caught.value} {caught.value.__cause__}"
    return caught.value


@pytest.fixture
def stranger(database_url: str) -> Iterator[str]:
    """A role that may log in, with `SECRET`; not into a database of its own."""
    role = f"test_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'".encode())
        yield role
        connection.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
async def test_a_wrong_password_is_a_wrong_configuration(database_url: str, ask: Ask) -> None:
    error = await refused(at(database_url, password=SECRET), ask)
    assert isinstance(error, ConfigurationError)
    known = parts(database_url)
    assert f"PostgreSQL at {known['host']}:{known['port']}/{known['dbname']} refused the connection" in str(error)
    assert 'password authentication failed for user "goqueue"' in str(error)
    assert "set user and password in the URL" in str(error)


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
async def test_a_database_that_is_not_there(database_url: str, ask: Ask) -> None:
    error = await refused(at(database_url, database="nowhere"), ask)
    assert isinstance(error, ConfigurationError)
    assert 'database "nowhere" does not exist' in str(error)
    assert "CREATE DATABASE" in str(error)


async def test_a_role_without_a_login_or_without_rights(database_url: str, stranger: str) -> None:
    name = parts(database_url)["dbname"]
    url = at(database_url, user=stranger, password=SECRET)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC".encode())
        error = await refused(url, WAYS["open"])
        assert isinstance(error, PermissionDenied)
        assert "GRANT CONNECT" in str(error)
        connection.execute(f"ALTER ROLE {stranger} NOLOGIN".encode())
    error = await refused(url, WAYS["open"])
    assert isinstance(error, ConfigurationError)
    assert "is not permitted to log in" in str(error)


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
async def test_a_server_that_is_away_is_unavailable_and_named(ask: Ask) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = await refused(f"postgresql://me:{quote(SECRET, safe='')}@127.0.0.1:{port}/shop", ask)
    assert isinstance(error, StoreUnavailable)
    assert str(error) == f"PostgreSQL at 127.0.0.1:{port}/shop did not answer: Connection refused"


async def test_a_server_that_is_silent_is_unavailable_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = await refused(f"postgresql://me@127.0.0.1:{port}/shop", WAYS["schema"])
    assert isinstance(error, StoreUnavailable)
    assert f"PostgreSQL at 127.0.0.1:{port}/shop did not answer: connection timeout expired" in str(error)


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql://me:{}@[::1/x",
        "postgresql://me:{}@host:1/x",
        "postgresql:/me:{}@host/x",
        "postgresql://me:a {}@h/x",
    ],
)
async def test_a_url_that_cannot_be_read_is_not_shown(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    for ask in (WAYS["schema"], WAYS["open"]):
        error = await refused(scheme.format(SECRET), ask)
        assert isinstance(error, ConfigurationError)
        assert "the URL of the database cannot be read" in str(error)
    # Nor in the log: the pool would tell there what the driver says.
    assert not [one for one in caplog.records if "s3cret" in one.getMessage()]


async def test_what_has_worked_before_is_waited_for(database_url: str, stranger: str) -> None:
    """A worker must not give its outcomes up while somebody changes a password."""
    store = PostgresStore(at(database_url, user=stranger, password=SECRET), settings=SETTINGS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"GRANT pg_read_all_data TO {stranger}".encode())
        await store._database.open()
        await store.ping()
        connection.execute(f"ALTER ROLE {stranger} PASSWORD 'another'".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [stranger])
        for ask in (WAYS["ping"], WAYS["ping"], WAYS["schema"]):
            with pytest.raises(StoreUnavailable) as caught:
                await ask(store)
        assert "password authentication failed" in str(caught.value)
        connection.execute(f"ALTER ROLE {stranger} PASSWORD '{SECRET}'".encode())
        await store.ping()
    await store.close()


def test_a_client_hears_of_it_too(database_url: str) -> None:
    jobs = PostgresJobs(at(database_url, password=SECRET), settings=SETTINGS)
    try:
        with pytest.raises(ConfigurationError, match="password authentication failed"):
            jobs.open()
    finally:
        jobs.close()


async def test_a_pool_that_is_all_in_use_is_not_a_refusal(database_url: str) -> None:
    store = PostgresStore(database_url, settings=StoreSettings(connect_timeout_s=1.0, pool_max=1))
    await store.ping()
    assert store._database._pool is not None
    async with store._database._pool.connection():
        with pytest.raises(StoreUnavailable, match="pool_max"):
            await store.ping()
    await store.close()


MANY = """Multiple connection attempts failed. All failures were:
- host: 'a', port: '5432', hostaddr: '10.0.0.1': connection failed: \
connection to server at "10.0.0.1", port 5432 failed: Connection refused
	Is the server running on that host and accepting TCP/IP connections?
- host: 'b', port: '5433', hostaddr: '10.0.0.2': connection timeout expired"""


def test_of_several_hosts_each_is_told() -> None:
    error = Attempts("postgresql://me:pw@a:5432,b:5433/shop").explain(psycopg.OperationalError(MANY))
    assert isinstance(error, StoreUnavailable)
    text = str(error)
    assert text.startswith("PostgreSQL at a:5432,b:5433/shop did not answer: host: 'a'")
    assert "Connection refused; host: 'b'" in text
    assert "timeout expired" in text
    assert "\n" not in text
    assert "Is the server running" not in text


@pytest.mark.parametrize(
    "words",
    [
        'FATAL:  role "me" does not exist',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "me", database "shop", no encryption',
        "fe_sendauth: no password supplied",
        "server does not support SSL, but SSL was required",
        'FATAL:  Peer authentication failed for user "me"',
    ],
)
def test_refusals_that_waiting_does_not_change(words: str) -> None:
    failed = psycopg.OperationalError(f'connection failed: connection to server at "h", port 5432 failed: {words}')
    error = Attempts("postgresql://me@h/shop").explain(failed)
    assert isinstance(error, ConfigurationError)
    assert words.removeprefix("FATAL:  ") in str(error)


@pytest.mark.parametrize(
    "words",
    [
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        'FATAL:  LDAP authentication failed for user "me"',
        "FATAL:  server login has been failing, try again later (server_login_retry)",
    ],
)
def test_refusals_that_pass(words: str) -> None:
    failed = psycopg.OperationalError(f'connection failed: connection to server at "h", port 5432 failed: {words}')
    assert type(Attempts("postgresql://me@h/shop").explain(failed)) is StoreUnavailable
