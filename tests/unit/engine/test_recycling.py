"""The supervisor replaces processes that have grown old, and loses nothing by it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from goqueue.engine.worker_process import WorkerProcess
from tests.unit.engine.faults import DEADLINE_S, quick
from tests.unit.engine.stage import staged


async def test_after_its_jobs_a_process_is_replaced_by_another_that_is_up_before_it_stops(tmp_path: Path) -> None:
    settings = quick(concurrency=1, recycle_jobs=20)
    async with staged(tmp_path, settings, "noop", others=50) as (stage, supervisor, _):
        await stage.until(lambda: len(stage.told("down")) >= 1)
        up, down = stage.told("up"), stage.told("down")
        assert down[0][1] == up[0][1]
        assert stage.reports.index(up[1]) < stage.reports.index(down[0])
        assert len(stage.told("settled", up[0][1], "Complete")) == 51  # it had gone on meanwhile
        assert supervisor.restarts >= 1
    assert stage.settled == []  # no burial: it took its leave itself


async def test_a_replaced_process_finishes_what_takes_longer_than_the_grace(tmp_path: Path) -> None:
    settings = quick(recycle_jobs=2, grace_s=0.1)
    async with staged(tmp_path, settings, "wait", 2.0, others=5) as (stage, _, _):
        await stage.until(lambda: len(stage.told("down")) >= 1)
        pid = stage.told("up")[0][1]
        assert stage.told("down")[0][1] == pid
        assert {report[2] for report in stage.told("settled", pid)} == {"Complete"}


@pytest.mark.parametrize("who", ["supervisor", "SIGTERM"])
async def test_a_stop_shortens_the_patience_with_a_replaced_process(tmp_path: Path, who: str) -> None:
    settings = quick(recycle_jobs=2, grace_s=0.1)
    async with staged(tmp_path, settings, "wait", 600.0, others=5) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("up")) >= 2)
        pid = stage.told("up")[0][1]
        await asyncio.sleep(0.5)  # longer than the grace
        assert len(stage.told("down")) == 0
        if who == "supervisor":
            supervisor.stop()
            await asyncio.wait_for(running, DEADLINE_S)
        else:
            os.kill(int(pid), signal.SIGTERM)
        await stage.until(lambda: len(stage.told("down", pid)) == 1)
        assert [report[2] for report in stage.told("settled", pid)].count("Release") == 1
        assert stage.settled == []


async def test_the_patience_with_a_replaced_process_has_an_end(tmp_path: Path) -> None:
    settings = quick(recycle_jobs=2, grace_s=0.1, recycle_grace_s=0.3)
    async with staged(tmp_path, settings, "wait", 600.0, others=5) as (stage, _, _):
        await stage.until(lambda: len(stage.told("down")) >= 1)
        pid = stage.told("up")[0][1]
        assert [report[2] for report in stage.told("settled", pid)].count("Release") == 1


async def test_at_most_one_process_too_many_however_often_they_ask(tmp_path: Path) -> None:
    settings = quick(recycle_memory_bytes=1, grace_s=60.0)
    most: list[int] = []
    async with staged(tmp_path, settings, "wait", 2.0) as (stage, supervisor, _):
        stage.looks = lambda: most.append(len(supervisor.pids))
        await stage.until(lambda: len(stage.told("down")) >= 2)
        assert max(most) == 2
        assert {report[2] for report in stage.told("settled")} == {"Complete"}


async def test_a_process_goes_on_when_what_should_replace_it_does_not_start(tmp_path: Path) -> None:
    """It goes on, is not stopped for the failure of another, and asks again."""
    with capture_logs() as logs:
        async with staged(tmp_path, quick(recycle_jobs=5), "only_one", others=10) as (stage, supervisor, running):
            await stage.until(lambda: [line["event"] for line in logs].count("replace") >= 2)
            assert not running.done()
            assert len(stage.told("up")) == 1
            assert int(stage.told("up")[0][1]) in supervisor.pids
            assert stage.told("down") == []


async def test_a_system_that_has_no_process_to_give_ends_none_of_those_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = WorkerProcess.spawn, itertools.count()

    async def spawn(*arguments: Any, **more: Any) -> WorkerProcess:  # Any: handed on as they are
        if next(tries) in (0, 2, 3):  # the first one, and the first two that should replace it
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return await real(*arguments, **more)

    monkeypatch.setattr(WorkerProcess, "spawn", spawn)
    async with staged(tmp_path, quick(recycle_jobs=3), "wait", 1.0, others=5) as (stage, supervisor, running):
        await stage.until(lambda: bool(stage.told("down") or running.done()))
        assert not running.done()
        assert stage.told("down")[0][1] == stage.told("up")[0][1]  # it ended by itself
        assert next(tries) >= 5
        assert supervisor.pids
    assert stage.settled == []
