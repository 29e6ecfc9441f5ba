"""The typed assertions hold, for mypy and for pyright's engine, from a project of a user's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent / "project"
BIN = Path(sys.executable).parent
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--no-incremental", "cases.py"],
    "pyright": [str(BIN / "basedpyright"), "--pythonpath", sys.executable, "cases.py"],
}


def check(checker: str, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a checker in a project that is far from this repository."""
    shutil.copy(PROJECT / "pyproject.toml", folder)
    (folder / "cases.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
    return subprocess.run(
        CHECKERS[checker], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_users_write_has_the_types_that_the_documentation_says(checker: str, tmp_path: Path) -> None:
    ran = check(checker, tmp_path, (PROJECT / "cases.py").read_text("utf-8"))
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_that_sees_nothing_would_be_seen(checker: str, tmp_path: Path) -> None:
    """Were goqueue unknown or untyped there, everything would be Any, and every assertion hold."""
    wrong = "from goqueue import GoQueue\n\napp = GoQueue()\n\n\n@app.task\ndef f(n: int) -> int:\n    return n\n\n\n"
    ran = check(checker, tmp_path, wrong + "f.job('1')\n")
    assert ran.returncode == 1
    assert "cases.py:11" in ran.stdout
