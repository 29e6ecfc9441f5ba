"""What people type: instants, rates, sizes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from goqueue.cli import parsing


@pytest.mark.parametrize(
    "text, ago_s", [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5 h ago", 5400), ("7d", 604_800), ("1w", 604_800)]
)
def test_how_long_ago(text: str, ago_s: float) -> None:
    read = parsing.instant(text)
    away = datetime.now(UTC) - read
    assert timedelta(seconds=ago_s) <= away < timedelta(seconds=ago_s + 60)


def test_instants() -> None:
    assert parsing.instant("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parsing.instant("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert parsing.instant("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-31T12:00:00", "-2h", "1e9d", "999999999999w", "2026-13-01"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parsing.instant(text)


def test_rates() -> None:
    assert [parsing.rate(text) for text in ("50", "50/s", "600/m", "1800/h", "0.5")] == [50, 50, 10, 0.5, 0.5]


@pytest.mark.parametrize("text", ["", "0", "0/s", "-1", "nan", "inf", "5/d", "fast", "9" * 400])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parsing.rate(text)


def test_sizes() -> None:
    read = [parsing.size_bytes(text) for text in ("512MB", "512m", "2GiB", "1.5 kB", "1000000", "7B", "0")]
    assert read == [512_000_000, 512_000_000, 2 * 1024**3, 1500, 1_000_000, 7, 0]


@pytest.mark.parametrize("text", ["", "much", "-1MB", "5PB", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parsing.size_bytes(text)
