"""The list of guards that `make mutate` drops: each is still where the list says."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from scripts.mutation.guard import EVERYTHING, ROOT, Guard
from scripts.mutation.guards import GUARDS

DROPPED = [guard for guard in GUARDS if not guard.equivalent]


def test_every_guard_is_where_the_list_says() -> None:
    assert [fault for guard in DROPPED if (fault := guard.fault())] == []


def test_a_guard_that_has_moved_is_told() -> None:
    assert "update scripts/mutation" in Guard("claim.sql", "gone", "no such text", "").fault()
    assert "changes nothing" in Guard("clock.sql", "same", "SELECT", "SELECT").fault()


def test_every_guard_has_a_name_of_its_own() -> None:
    assert [title for title, count in Counter(guard.title for guard in GUARDS).items() if count > 1] == []


@pytest.mark.parametrize(
    "file",
    [
        *(
            "parts/settle.sql",
            "settle_check.sql",
            "extend.sql",
            "extend_held.sql",
            "enqueue_by.sql",
            "parts/take_back.sql",
        ),
        *("sweep_orphans.sql", "sweep_orphans_full.sql", "sweep_expired.sql", "sweep_workers.sql", "sweep_records.sql"),
        *("parts/claim.sql", "parts/freed.sql", "parts/term.sql", "cancel.sql", "delete.sql", "retry_history.sql"),
    ],
)
def test_every_statement_that_settles_extends_or_sweeps_is_in_the_list(file: str) -> None:
    assert sum(guard.file == file for guard in DROPPED) >= 3


def test_the_tests_that_a_guard_names_exist() -> None:
    names = {path: _tests(ROOT / path) for path in EVERYTHING}
    conformance = (ROOT / "src/goqueue/store/conformance").glob("*.py")
    names[EVERYTHING[0]] = [name for path in conformance for name in _tests(path)]
    for guard in DROPPED:
        for word in re.split(r" or ", guard.tests):
            assert any(word in name for name in names[guard.at]), f"{guard.title}: there is no {word}"


def _tests(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        n.name for n in nodes if isinstance(n, ast.AsyncFunctionDef | ast.FunctionDef) and n.name.startswith("test_")
    ]
