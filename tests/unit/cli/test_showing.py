"""`goqueue jobs show`: what a handler has logged is there."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from goqueue.cli.showing import show_job
from goqueue.model.job import JobLog, JobRecord
from goqueue.model.state import JobState

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(*logs: JobLog) -> JobRecord:
    return JobRecord(
        id="0199a1b2-0000-7000-8000-000000000001",
        kind="mail",
        args=msgspec.Raw(b"{}"),
        queue="default",
        priority=5,
        state=JobState.COMPLETED,
        attempt=2,
        max_attempts=20,
        crashes=0,
        max_crashes=3,
        run_at=AT,
        created_at=AT,
        logs=logs,
    )


def test_lines_are_shown_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    show_job(record(JobLog(1, AT, "info", "began"), JobLog(2, AT, "error", "[red]as it is[/red]")))
    shown = capsys.readouterr().out
    first, second = (line for line in shown.splitlines() if "03:04:05 UTC  attempt" in line)
    assert first.split()[-3:] == ["1", "info", "began"]
    assert second.endswith("attempt 2  error    [red]as it is[/red]")


def test_without_lines_there_is_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    show_job(record())
    assert "logs" not in capsys.readouterr().out
