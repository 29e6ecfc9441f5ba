"""Progress: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

LINE_EVERY_S: Final = 2.0


class Progress:
    """Tell how many of ``total`` are done."""

    def __init__(self, total: int, what: str) -> None:
        self._total = total
        self._what = what
        self._told_at = 0.0
        self._told = -1
        self._bar: Bar | None = None
        if sys.stdout.isatty():
            self._bar = Bar(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, done: int) -> None:
        """Say that so many are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
            return
        now = time.monotonic()
        if done != self._told and (now - self._told_at >= LINE_EVERY_S or done == self._total):
            self._told, self._told_at = done, now
            print(f"{self._what}: {done:,} of {self._total:,}", flush=True)
