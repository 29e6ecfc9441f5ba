"""Packed arrays are what PostgreSQL reads: each kind goes there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import RawCursor

from goqueue.store.postgres import pack
from goqueue.store.postgres.adapters import teach

NUL_FREE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
FAR = timezone(timedelta(hours=5, minutes=45))


@pytest.fixture(scope="module")
def connection(postgres_server: Any) -> Any:
    url = postgres_server.url_for("postgres")
    with psycopg.connect(url, autocommit=True, cursor_factory=RawCursor) as connection:
        teach(connection.adapters)
        yield connection


def there_and_back(connection: Any, packed: pack.Packed, kind: str) -> list[Any]:
    row = connection.execute(f"SELECT $1::{kind}".encode(), [packed], binary=True).fetchone()
    return list(row[0])


def test_instants(connection: Any) -> None:
    values = [None, datetime(2000, 1, 1, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC)]
    values += [datetime(2199, 12, 31, 1, 2, 3, 4, FAR)]
    assert there_and_back(connection, pack.instants(values), "timestamptz[]") == values


def test_uuids(connection: Any) -> None:
    values = ["01a20bc2-9e29-7753-9fde-f68a8fef2723", "no uuid", "", "01a20bc2"]
    got = [str(v) for v in there_and_back(connection, pack.uuids(values), "uuid[]")]
    assert got == [values[0]] + ["00000000-0000-0000-0000-000000000000"] * 3


def test_empty_arrays(connection: Any) -> None:
    for packed, kind in (
        (pack.uuids([]), "uuid[]"),
        (pack.texts([]), "text[]"),
        (pack.float8s([]), "float8[]"),
        (pack.int8s([]), "int8[]"),
    ):
        assert there_and_back(connection, packed, kind) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    texts=st.lists(st.none() | NUL_FREE, max_size=8),
    numbers=st.lists(st.none() | st.floats(allow_nan=False), max_size=8),
    int8s=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8),
    int2s=st.lists(st.integers(-(2**15), 2**15 - 1), max_size=8),
    raws=st.lists(st.none() | st.binary(max_size=40), max_size=8),
)
def test_there_and_back(
    connection: Any,
    texts: list[str | None],
    numbers: list[float | None],
    int8s: list[int],
    int2s: list[int],
    raws: list[bytes | None],
) -> None:
    assert there_and_back(connection, pack.texts(texts), "text[]") == texts
    assert there_and_back(connection, pack.float8s(numbers), "float8[]") == numbers
    assert there_and_back(connection, pack.int8s(int8s), "int8[]") == int8s
    assert there_and_back(connection, pack.int4s(int2s), "int4[]") == int2s
    assert there_and_back(connection, pack.int2s(int2s), "int2[]") == int2s
    assert there_and_back(connection, pack.byteas(raws), "bytea[]") == raws


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(tags=st.lists(NUL_FREE, min_size=1, max_size=5))
def test_array_literals(connection: Any, tags: list[str]) -> None:
    row = connection.execute(b"SELECT $1::text::text[]", [pack.array_literal(tags)]).fetchone()
    assert row[0] == tags
