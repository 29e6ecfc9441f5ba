"""Verbs as pure values: a plan yields statements, receives their rows and returns the verb's answer.

Plans do no I/O. Two tiny loops pump them, one async and one sync (``_async/database.py`` and its generated twin), and
the same plan runs on a connection of ours or inside a caller's own transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

Rows: TypeAlias = Sequence[tuple[Any, ...]]
"""Rows as the driver gives them: their types are known from the statement's header, not to the type checker."""


class Statement(msgspec.Struct, frozen=True):
    """One statement by the name of its file, with its parameters."""

    name: str
    params: tuple[object, ...] = ()
    indexed: bool = True
    """Plan without sequential scans (in transactions of ours). A table that was analysed while it was empty looks as if
    reading all of it were cheapest, and the server keeps that plan when the table has long been full."""
    one_plan: bool = False
    """One plan is good for all parameters: where statements are prepared, it is made once for each connection."""
    wake: tuple[str, ...] = ()
    """Topics to notify in the same trip and commit (never in a caller's transaction)."""


Plan: TypeAlias = Generator[Statement, Rows, T]
