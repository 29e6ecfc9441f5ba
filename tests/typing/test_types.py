"""The typed assertions hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_what_users_write_has_the_types_that_the_documentation_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    output, errors, code = api.run(["--config-file", "pyproject.toml", "tests/typing/cases.py"])
    assert code == 0, output + errors
