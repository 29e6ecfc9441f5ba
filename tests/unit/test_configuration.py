"""Settings: environment over file over default; what is unknown or out of bounds is refused with its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from goqueue.configuration import DEFAULT, Configuration, load
from goqueue.model.errors import InvalidSetting


def project(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def source(configuration: Configuration, name: str) -> str:
    return next(value.source for value in configuration.values if value.name == name)


def test_defaults(tmp_path: Path) -> None:
    found = load({}, project(tmp_path, "[project]\nname = 'x'\n"))
    assert (found.url, found.app, found.worker.lease_s, found.worker.prefetch_jobs) == (None, None, 30.0, 50)
    assert {value.source for value in found.values} == {DEFAULT}
    assert all(value.meaning for value in found.values)


def test_environment_over_file_over_default(tmp_path: Path) -> None:
    folder = project(tmp_path, "[tool.goqueue]\napp = 'mail:app'\n[tool.goqueue.worker]\nlease_s = 5\nbeat_s = 1\n")
    below = folder / "src" / "deep"
    below.mkdir(parents=True)
    found = load({"GOQUEUE_WORKER_LEASE_S": "7.5"}, below)
    assert (found.app, found.worker.lease_s, found.worker.beat_s, found.worker.poll_s) == ("mail:app", 7.5, 1.0, 1.0)
    assert source(found, "worker.lease_s") == "GOQUEUE_WORKER_LEASE_S"
    assert source(found, "worker.beat_s").endswith("pyproject.toml")
    assert source(found, "worker.poll_s") == DEFAULT


def test_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "goqueue.toml"
    file.write_text("url = 'postgresql://there/db'\n[server]\nport = 9000\n")
    found = load({"GOQUEUE_CONFIG": str(file)}, tmp_path)
    assert (found.url, found.server.port) == ("postgresql://there/db", 9000)


@pytest.mark.parametrize(
    "environment,text,message",
    [
        ({"GOQUEUE_WORKER_LEASE_S": "-1"}, "", r"worker\.lease_s \(from GOQUEUE_WORKER_LEASE_S\)"),
        ({"GOQUEUE_WORKER_LEASE_S": "soon"}, "", r"worker\.lease_s \(from GOQUEUE_WORKER_LEASE_S\)"),
        ({"GOQUEUE_WORKER_LEESE_S": "1"}, "", "GOQUEUE_WORKER_LEESE_S; do you mean GOQUEUE_WORKER_LEASE_S"),
        ({"GOQUEUE_HOME": "/x"}, "", "no setting GOQUEUE_HOME"),
        ({"GOQUEUE_API_KEY": "x"}, "", "no setting GOQUEUE_API_KEY"),
        ({}, "[tool.goqueue]\nurll = 'x'\n", "no setting urll; do you mean url"),
        ({}, "[tool.goqueue.worker]\nconcurency = 3\n", r"worker\.concurency; do you mean concurrency"),
        ({}, "[tool.goqueue.worker]\nconcurrency = 0\n", r"worker\.concurrency \(from .*pyproject\.toml\)"),
        ({}, "[tool.goqueue\n", "cannot read"),
        ({"GOQUEUE_CONFIG": "/no/such/file.toml"}, "", "cannot read"),
    ],
)
def test_what_is_refused(tmp_path: Path, environment: dict[str, str], text: str, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        load(environment, project(tmp_path, text))
