"""The suite on the page about arguments runs as it stands there, and its modules are typed as it says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from goqueue.cli.main import run
from goqueue.wiring import _Doors
from tests.docs.pages import GUIDES, files_of, run_suite, type_check

PAGE = "arguments.md"


@pytest.mark.slow
def test_the_suite_passes(tmp_path: Path) -> None:
    run_suite(PAGE, tmp_path)
    type_check(PAGE, tmp_path)


def test_the_command_writes_schemas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = re.findall(r"^\$ goqueue (.*)$", (GUIDES / PAGE).read_text("utf-8"), re.MULTILINE)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "shop.py").write_text(files_of(PAGE)["shop.py"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert run(_Doors(), shlex.split(command)) == 0
    finally:
        sys.modules.pop("shop", None)
    assert set(json.loads(capsys.readouterr().out)) == {"total", "stamp"}
