"""What a guard is, and where the tests are that are likely to miss it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PACKAGE: Final = ROOT / "src" / "goqueue"
SQL: Final = "store/postgres"

CONFORMANCE: Final = "tests/conformance/test_postgres.py"
CONCURRENCY: Final = "tests/postgres/test_concurrency.py"
GUARDS: Final = "tests/postgres/test_guards.py"
HISTORY: Final = "tests/postgres/test_history.py"
LIMITS: Final = "tests/postgres/test_limits.py"
REVIEWED: Final = "tests/postgres/test_reviewed.py"
LOCKS: Final = "tests/postgres/test_reviewed_locks.py"
EVERYTHING: Final = (CONFORMANCE, GUARDS, CONCURRENCY, LIMITS, HISTORY, REVIEWED, LOCKS)
"""Where a guard has to be missed by somebody, when the tests named with it do not miss it."""


@dataclass(frozen=True)
class Guard:
    """One guard of one statement, and how to take it away.

    `file` is below ``store/postgres`` (``queries/`` if it names no folder). `old` occurs `count` times in it. `tests`
    is an expression of pytest's ``-k``, for the file `at`. With `equivalent`, no test can miss it, and that is why.
    """

    file: str
    name: str
    old: str
    new: str
    tests: str = ""
    at: str = CONFORMANCE
    count: int = 1
    equivalent: str = ""

    @property
    def place(self) -> str:
        """Path of the file below the package."""
        return f"{SQL}/{self.file if self.file.startswith('migrations/') else 'queries/' + self.file}"

    @property
    def title(self) -> str:
        """Both file and name."""
        return f"{self.file}: {self.name}"

    def fault(self, package: Path = PACKAGE) -> str:
        """Return what is wrong with this entry of the list; empty if nothing is."""
        found = (package / self.place).read_text(encoding="utf-8").count(self.old)
        if found != self.count:
            return f"{self.title}: the guard has moved: update scripts/mutation (found {found} times, not {self.count})"
        return "" if self.old != self.new else f"{self.title}: changes nothing"

    def drop(self, package: Path) -> None:
        """Take the guard away in a copy of the package."""
        file = package / self.place
        file.write_text(file.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")


def equivalent(file: str, name: str, why: str) -> Guard:
    """Note a guard that nothing can miss, without a change to try."""
    return Guard(file, name, "", "", equivalent=why)
