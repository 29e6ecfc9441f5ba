"""The typed assertions about many jobs hold, for two type checkers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[2]

CASES = "tests/typing/many.py"


@pytest.mark.slow
def test_mypy_sees_the_types_that_the_documentation_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    output, errors, code = api.run(["--config-file", "pyproject.toml", CASES])
    assert code == 0, output + errors


@pytest.mark.slow
def test_pyright_sees_them_too() -> None:
    checker = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, CASES]
    done = subprocess.run(checker, cwd=ROOT, capture_output=True, text=True, timeout=300)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, done.stdout + done.stderr
    told = {one["range"]["start"]["line"]: one for one in report["generalDiagnostics"] if one["severity"] == "error"}
    wrong = {n for n, line in enumerate((ROOT / CASES).read_text().splitlines()) if "type: ignore" in line}
    assert told.keys() == wrong, json.dumps(list(told.values()), indent=1)
