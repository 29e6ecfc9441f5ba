"""Settings: environment over file over default; what is unknown or out of bounds is refused with its source."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from goqueue.configuration import DEFAULT, Configuration, load
from goqueue.model.errors import InvalidSetting
from goqueue.settings import Retention


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


def test_a_table_of_its_own_for_each_queue(tmp_path: Path) -> None:
    wanted = {"mail": Retention(completed_s=3600.0), "keep.it": Retention(dead_s=None, cancelled_s=0.0)}
    text = (
        "[tool.goqueue.store.queue_retention.mail]\ncompleted_s = 3600\n"
        "[tool.goqueue.store.queue_retention.'keep.it']\ndead_s = 'null'\ncancelled_s = 0\n"
    )
    found = load({}, project(tmp_path, text))
    assert found.store.queue_retention == wanted
    assert source(found, "store.queue_retention").endswith("pyproject.toml")
    value = '{"mail": {"completed_s": 3600}, "keep.it": {"dead_s": null, "cancelled_s": 0}}'
    found = load({"GOQUEUE_STORE_QUEUE_RETENTION": value}, project(tmp_path, "[tool.goqueue]\n"))
    assert found.store.queue_retention == wanted
    assert source(found, "store.queue_retention") == "GOQUEUE_STORE_QUEUE_RETENTION"
    # What `goqueue config` shows can be given again.
    shown = msgspec.json.encode(found.store.queue_retention).decode()
    assert load({"GOQUEUE_STORE_QUEUE_RETENTION": shown}, tmp_path).store.queue_retention == wanted


RETENTION = "GOQUEUE_STORE_QUEUE_RETENTION"


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
        ({RETENTION: "{"}, "", rf"store\.queue_retention \(from {RETENTION}\): must be JSON"),
        ({RETENTION: "[]"}, "", rf"store\.queue_retention \(from {RETENTION}\): must be a table"),
        ({RETENTION: '{"mail": 5}'}, "", rf"store\.queue_retention.* \(from {RETENTION}\)"),
        ({RETENTION: '{"mail": {"completed_s": -5}}'}, "", rf"queue_retention.*completed_s \(from {RETENTION}\)"),
        ({RETENTION: '{"mail": {"complete_s": 5}}'}, "", r"mail\.complete_s; do you mean completed_s"),
        ({RETENTION: json.dumps({f"q{i}": {} for i in range(1_001)})}, "", "at most 1000 entries"),
        ({}, "[tool.goqueue.store.queue_retention]\nmail = 'x'\n", r"queue_retention.*pyproject\.toml"),
    ],
)
def test_what_is_refused(tmp_path: Path, environment: dict[str, str], text: str, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        load(environment, project(tmp_path, text))
