"""Pages whose blocks are files (their first line names them): a suite that runs as it stands on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"


def files_of(page: str) -> dict[str, str]:
    """Return the files on a page by name. Every block must be one, commands apart."""
    text = (GUIDES / page).read_text("utf-8")
    files = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", text, re.DOTALL)
    blocks = re.findall(r"^```(?!console)\w", text, re.MULTILINE)
    assert len(blocks) == len(dict(files)), "a block that names no file of its own"
    return dict(files)


def run_suite(page: str, folder: Path) -> None:
    """Write the files of a page into a folder and run the tests in them, all of which must pass."""
    files = files_of(page)
    for name, text in files.items():
        (folder / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-p", "no:asyncio"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for text in files.values())
    assert written
    assert f"{written} passed" in ran.stdout


def type_check(page: str, folder: Path) -> None:
    """Check the modules of a page with mypy, strictly, as a user's own."""
    modules = [name for name in files_of(page) if name.endswith(".py") and not name.startswith("test_")]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", *modules],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
