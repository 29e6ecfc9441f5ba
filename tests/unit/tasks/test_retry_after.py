"""`Retry-After` in all its shapes, and rubbish."""

from __future__ import annotations

import urllib.error
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.model import limits
from goqueue.tasks.retry_after import asked_for_s

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DATE = "Thu, 01 Jan 2026 12:00:30 GMT"


class Failed(Exception):
    """As a client raises it: with the answer."""

    def __init__(self, headers: object) -> None:
        super().__init__("failed")
        self.response = SimpleNamespace(headers=headers)


class Carries(Exception):
    """As aiohttp and urllib raise it: with the headers."""

    def __init__(self, headers: object) -> None:
        super().__init__("failed")
        self.headers = headers


class Trap(Exception):
    """Raises whenever it is looked at."""

    @property
    def response(self) -> object:
        raise RuntimeError("closed")


@pytest.mark.parametrize(
    "headers,seconds",
    [
        ({"Retry-After": "120"}, 120.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"RETRY-AFTER": b"7"}, 7.0),
        ({b"Retry-After": b"7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": DATE}, 30.0),
        ({"Retry-After": "Thursday, 01-Jan-26 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": DATE, "Date": "Thu, 01 Jan 2026 12:00:20 GMT"}, 10.0),
        ({"Retry-After": DATE, "date": "rubbish"}, 30.0),
        ({"Retry-After": "999999999999"}, limits.DELAY_S_MAX),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, limits.DELAY_S_MAX),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1e5"}, None),
        ({"Retry-After": "9" * 1000}, None),
        ({"Retry-After": "\u0661\u0662"}, None),
        ({"Retry-After": None}, None),
        ({"Retry-After": "Thu, 99 Jan 2026 12:00:30 GMT"}, None),
        ({"X": "1"}, None),
        ({}, None),
        (None, None),
        (5, None),
        ([("Retry-After", "5")], None),
    ],
)
@pytest.mark.parametrize("cls", [Failed, Carries])
def test_headers(cls: type[Failed] | type[Carries], headers: object, seconds: float | None) -> None:
    assert asked_for_s(cls(headers), NOW) == seconds


def test_an_error_of_urllib() -> None:
    headers = Message()
    headers["Retry-After"] = "12"
    assert asked_for_s(urllib.error.HTTPError("http://x", 503, "busy", headers, None)) == 12.0


def test_without_a_date_of_its_own_it_counts_from_now() -> None:
    assert asked_for_s(Failed({"Retry-After": "Fri, 31 Dec 2199 23:59:59 GMT"})) == limits.DELAY_S_MAX
    assert asked_for_s(Failed({"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"})) == 0.0


def test_the_errors_own_attribute_comes_first_if_it_is_a_number() -> None:
    error = Failed({"Retry-After": "5"})
    for own, seconds in ((9, 9.0), (0.5, 0.5), ("9", 5.0), (-1, 5.0), (float("nan"), 5.0), (True, 5.0), (None, 5.0)):
        error.retry_after_s = own  # type: ignore[attr-defined] # as users set it
        assert asked_for_s(error) == seconds


def test_an_error_that_cannot_be_looked_at_asks_for_nothing() -> None:
    assert asked_for_s(Trap()) is None
    assert asked_for_s(ValueError("plain")) is None


@given(st.dictionaries(st.sampled_from(["Retry-After", "Date", "x"]), st.text(max_size=80)))
def test_no_rubbish_gets_through(headers: Mapping[str, str]) -> None:
    seconds = asked_for_s(Failed(headers))
    assert seconds is None or 0 <= seconds <= limits.DELAY_S_MAX
