"""A desk: commands over a memory store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from goqueue import configuration as configuration_module
from tests.unit.cli.doors import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    """A desk in an empty project, with no setting from outside."""
    for name in list(os.environ):
        if name.startswith("GOQUEUE_"):
            monkeypatch.delenv(name)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    yield Desk(capsys)
    configuration_module.configuration.cache_clear()
