"""Every example of the page about many jobs runs as it stands there, with a real worker."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from goqueue import configuration as configuration_module
from tests.support.processes import bench

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "guides" / "many_jobs.md").read_text("utf-8"), re.DOTALL)
MODULE = [text for _, text in BLOCKS if text.startswith("# search.py")]
SCRIPT = [text for _, text in BLOCKS if not text.startswith("# search.py")]


def test_it_runs_from_the_first_line_to_the_last(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "search.py").write_text("\n\n".join(MODULE))
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("GOQUEUE_URL", database_url)
    configuration_module.configuration.cache_clear()
    importlib.invalidate_caches()
    names: dict[str, Any] = {"__name__": "script"}
    try:
        with bench(tmp_path, GOQUEUE_URL=database_url) as place:
            worker = place.start("worker", "search:app")
            for text in SCRIPT:
                exec(text, names)  # noqa: S102  the page's own text
                said = capsys.readouterr().out
                for wanted in re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE):
                    assert wanted in said.splitlines(), (wanted, said)
            assert worker.stop() == 0, worker.output
    finally:
        if "client" in names:
            names["client"].close()
        sys.modules.pop("search", None)
        configuration_module.configuration.cache_clear()


def test_every_block_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"python"}
    assert (len(MODULE), len(SCRIPT)) == (3, 7)
