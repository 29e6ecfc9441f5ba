"""`goqueue doctor`: what it says, in which order, and its exit code."""

from __future__ import annotations

import csv
import io
import json

import pytest

from goqueue.model.admin import Finding, Level, SchemaStatus
from goqueue.model.errors import SchemaMissing, StoreUnavailable
from goqueue.store.memory.store import MemoryStore
from tests.unit.cli.doors import Desk

OK = Finding(check="indexes", level=Level.OK, text="all there")
WARNING = Finding(check="oldest_snapshot", level=Level.WARNING, text="pid 7 holds one for 5 min " * 10, do="end pid 7")
ERROR = Finding(check="clock_skew", level=Level.ERROR, text="600 s off", do="run an NTP client")


class Patient(MemoryStore):
    """A store that says what a test wants."""

    findings: tuple[Finding, ...] = ()
    status = SchemaStatus(3, 3)
    away = False

    async def schema(self) -> SchemaStatus:
        if self.away:
            raise StoreUnavailable("connection refused")
        return self.status

    async def diagnose(self) -> list[Finding]:
        if not self.status.current:
            raise SchemaMissing("no schema")
        return list(self.findings)


@pytest.fixture
def patient(desk: Desk) -> Patient:
    one = Patient()
    desk.doors.make = lambda: one
    return one


def rows(desk: Desk, *arguments: str, code: int = 0) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(desk("doctor", "-o", "csv", *arguments, code=code))))


def test_the_worst_comes_first(desk: Desk, patient: Patient) -> None:
    patient.findings = (OK, WARNING, ERROR)
    found = rows(desk, code=1)
    assert [row["level"] for row in found[:2]] == ["error", "warning"]
    assert [row["check"] for row in found] == [
        "clock_skew", "oldest_snapshot", "version", "configuration", "schema_version", "indexes",
    ]  # fmt: skip
    assert found[0]["do"] == "run an NTP client"


def test_json_has_the_findings(desk: Desk, patient: Patient) -> None:
    patient.findings = (WARNING,)
    found = json.loads(desk("doctor", "-o", "json"))
    assert found[0] == {"check": "oldest_snapshot", "level": "warning", "text": WARNING.text, "do": "end pid 7"}


@pytest.mark.parametrize(
    "findings, code, strict", [((OK,), 0, 0), ((OK, WARNING), 0, 1), ((OK, WARNING, ERROR), 1, 1), ((), 0, 0)]
)
def test_exit_codes(desk: Desk, patient: Patient, findings: tuple[Finding, ...], code: int, strict: int) -> None:
    patient.findings = findings
    desk("doctor", code=code)
    desk("doctor", "--strict", code=strict)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_cut(desk: Desk, patient: Patient, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.cli.output.PIPE_WIDTH", width)
    patient.findings = (WARNING,)
    lines = desk("doctor").splitlines()
    assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    assert shown.count("holds") == 10
    assert "→endpid7" in shown
    assert "…" not in shown


def test_a_database_that_is_away(desk: Desk, patient: Patient) -> None:
    patient.away = True
    first = rows(desk, code=5)[0]
    assert (first["check"], first["level"], first["text"]) == ("connection", "error", "connection refused")
    assert first["do"]
    assert {"version", "configuration"} <= {row["check"] for row in rows(desk, code=5)}


def test_a_database_without_a_schema(desk: Desk, patient: Patient) -> None:
    patient.status = SchemaStatus(0, 3, ("one",))
    first, *others = rows(desk, code=1)
    assert first["check"] == "schema_version"
    assert "goqueue db migrate" in first["do"]
    assert {row["level"] for row in others} == {"ok"}, "said once"


def test_a_schema_that_is_newer(desk: Desk, patient: Patient) -> None:
    patient.status = SchemaStatus(4, 3)
    assert "upgrade goqueue" in rows(desk, code=1)[0]["do"]


def test_settings_that_are_wrong_and_where_they_come_from(
    desk: Desk, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOQUEUE_WORKER_CONCURRENCY", "7")
    said = next(
        row["text"] for row in rows(desk, "--url", "postgresql://a:secret@h/d") if row["check"] == "configuration"
    )
    assert "GOQUEUE_WORKER_CONCURRENCY" in said
    assert "--url" in said
    assert "secret" not in said
    monkeypatch.setenv("GOQUEUE_WORKER_CONCURENCY", "7")
    first = rows(desk, code=2)[0]
    assert (first["check"], first["level"]) == ("configuration", "error")
    assert "do you mean" in first["text"]
