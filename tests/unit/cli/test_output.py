"""Tables that fit, and durations for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.cli.output import CELL_GAP, SHORTEST_CELL, Column, ago, duration, fit

COLUMNS = [Column("id", whole=True), Column("kind"), Column("state", whole=True), Column("error")]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_has_room_is_left_alone() -> None:
    assert fit(COLUMNS, [36, 10, 9, 30], 200) == [36, 10, 9, 30]


def test_the_widest_gives_way_first() -> None:
    assert fit(COLUMNS, [36, 10, 9, 90], 36 + 10 + 9 + 40 + 3 * CELL_GAP) == [36, 10, 9, 40]


def test_then_columns_go_from_the_right() -> None:
    assert fit(COLUMNS, [36, 10, 9, 90], 36 + SHORTEST_CELL + 9 + 2 * CELL_GAP) == [36, SHORTEST_CELL, 9, 0]
    assert fit(COLUMNS, [36, 10, 9, 90], 20) == [36, 0, 0, 0]


@given(st.lists(st.integers(1, 300), min_size=4, max_size=4), st.integers(1, 400))
def test_it_fits_or_one_column_is_left(widths: list[int], room: int) -> None:
    got = fit(COLUMNS, widths, room)
    shown = [width for width in got if width]
    assert len(shown) == 1 or sum(shown) + CELL_GAP * (len(shown) - 1) <= room
    assert got[0] == widths[0], "what is kept whole is whole"
    assert all(0 <= width <= natural for width, natural in zip(got, widths, strict=True))


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "now"), (-0.2, "now"), (5, "5 s ago"), (-90, "in 2 m"), (7200, "2 h ago"), (-86_400 * 3, "in 3 d")],
)
def test_how_far_away(seconds: float, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_durations() -> None:
    assert [duration(s) for s in (None, 0.0123, 1.5, 600, 7200, 86_400 * 7)] == [
        "",
        "12.3 ms",
        "1.5 s",
        "10.0 min",
        "2.0 h",
        "7.0 d",
    ]
