"""Examples as a newcomer runs them: imported from their own folder, with a worker of `goqueue worker` beside them."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from goqueue import configuration
from tests.support.processes import Bench, bench

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def example(name: str, app: str, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module ``name`` of a copy of the examples in ``folder``, with a worker for its application ``app``."""
    with copied(folder, url, monkeypatch) as place:
        worker = place.start("worker", f"{name}:{app}")
        try:
            yield importlib.import_module(name)
        finally:
            sys.modules.pop(name, None)
            configuration.configuration.cache_clear()
        assert worker.stop() == 0, worker.output


@contextmanager
def copied(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, *, part: str = "") -> Iterator[Bench]:
    """A copy of the examples, or of one ``part``, as the working folder; commands that are started know the URL."""
    place = folder / "examples"
    shutil.copytree(EXAMPLES / part, place, ignore=shutil.ignore_patterns("__pycache__", "pyproject.toml"))
    (place / "pyproject.toml").touch()  # settings are not looked for further up
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("GOQUEUE_URL", url)
    configuration.configuration.cache_clear()
    importlib.invalidate_caches()
    with bench(place, GOQUEUE_URL=url) as started:
        yield started
