"""The suite on the page about testing runs as it stands there, under a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guides" / "testing.md").read_text("utf-8")
FILES = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)


def test_each_block_is_a_file() -> None:
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(FILES)
    assert len({name for name, _ in FILES}) == len(FILES) > 8


def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-p", "no:asyncio"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder)} | variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_the_suite_passes(tmp_path: Path, postgres_server: EmbeddedPostgres) -> None:
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    ran = run(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = sum(text.count("\ndef test_") + text.startswith("def test_") for _, text in FILES)
    assert f"{written} passed" in ran.stdout


@pytest.mark.slow
def test_a_server_that_is_there_is_used(tmp_path: Path, postgres_server: EmbeddedPostgres) -> None:
    for name, text in FILES:
        if name in ("shop.py", "test_postgres.py"):
            (tmp_path / name).write_text(text)
    before = databases(postgres_server.url)
    ran = run(tmp_path, GOQUEUE_TEST_SERVER_URL=postgres_server.url)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert databases(postgres_server.url) == before, "what it has made there is gone"


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'goqueue%'").fetchall()
    return {name for (name,) in names}


def test_without_an_application_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "test_it.py").write_text("def test_it(goqueue_sandbox): ...")
    ran = run(tmp_path)
    assert ran.returncode == 1
    assert "[tool.goqueue] app = 'module:app'" in ran.stdout
