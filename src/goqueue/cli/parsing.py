"""Instants, rates and sizes as people type them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/([smh]))?")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_AGO_S_MAX: Final = 100 * 366 * 86_400.0


def instant(text: str) -> datetime:
    """Read ``2026-01-31T12:00:00Z``, ``2026-01-31`` (in UTC), or how long ago: ``90s``, ``15m``, ``2h``, ``7d``."""
    if found := _AGO.fullmatch(text.strip().removesuffix("ago").strip()):
        seconds = float(found[1]) * _UNITS_S[found[2]]
        if seconds <= _AGO_S_MAX:
            return datetime.now(UTC) - timedelta(seconds=seconds)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"cannot read {text!r}: write 2026-01-31T12:00:00Z, 2026-01-31, or 2h ago") from None
    if read.tzinfo is None:
        if len(text) > len("2026-01-31"):
            raise typer.BadParameter(f"{text} lacks its time zone: write {text}Z for UTC")
        read = read.replace(tzinfo=UTC)
    return read


def rate(text: str) -> float:
    """Read ``50``, ``50/s``, ``600/m`` or ``1000/h``; return jobs in a second."""
    found = _RATE.fullmatch(text.strip())
    per_s = float(found[1]) / _UNITS_S[found[2] or "s"] if found else 0.0
    if not found or not math.isfinite(per_s) or per_s <= 0:
        raise typer.BadParameter(f"cannot read {text!r}: write 50/s, 600/m or 1000/h")
    return per_s


def size_bytes(text: str) -> int:
    """Read ``512MB``, ``1.5GiB`` or a number of bytes. A kilobyte has 1,000 bytes, a kibibyte 1,024."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"cannot read {text!r}: write 512MB, 2GiB, or a number of bytes")
    base = 1024 if found[3] else 1000
    return round(float(found[1]) * float(base) ** _POWERS[found[2].upper()])
