"""The supervisor and its worker processes: they live, die, hang and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from goqueue.engine.supervisor import Supervisor
from goqueue.model.errors import ConfigurationError, StoreUnavailable
from goqueue.model.lease import Beat, Beaten
from goqueue.settings import WorkerSettings
from tests.unit.engine.child_target import Payload
from tests.unit.engine.faults import DEADLINE_S, quick

TARGET = "tests.unit.engine.child_target:target"


class Stage:
    """Hears what the workers report and what the supervisor tells the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: list[list[str]] = []
        self.beats: list[tuple[float, Beat]] = []
        self.down = False
        self.connections = 0
        self.changed = asyncio.Event()

    async def extend(self, beat: Beat) -> Beaten:
        if self.down:
            raise StoreUnavailable("down")
        self.beats.append((time.monotonic(), beat))
        self.changed.set()
        return Beaten()

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                self.reports.append(line.decode().split())
                self.changed.set()
        finally:
            writer.close()
            await writer.wait_closed()
            self.connections -= 1
            self.changed.set()

    async def open(self) -> None:
        self.server = await asyncio.start_unix_server(self.listen, self.path)

    async def close(self) -> None:
        """Wait until all workers have gone."""
        await self.until(lambda: self.connections == 0)
        self.server.close()
        await self.server.wait_closed()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def told(self, *words: str) -> list[list[str]]:
        return [report for report in self.reports if all(word in report for word in words)]


@asynccontextmanager
async def staged(
    tmp_path: Path, settings: WorkerSettings, job: str = "", seconds: float = 0.0
) -> AsyncIterator[tuple[Stage, Supervisor, asyncio.Task[None]]]:
    stage = Stage(tmp_path / "reports")
    await stage.open()
    payload = msgspec.json.encode(Payload(str(stage.path), settings, job, seconds)).decode()
    supervisor = Supervisor(TARGET, payload, settings, extend=stage.extend)
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(60):
            yield stage, supervisor, running
    finally:
        supervisor.stop(now=True)
        await asyncio.gather(running, return_exceptions=True)
        await stage.close()


async def test_all_processes_run_and_a_stop_ends_them_gracefully(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(processes=2)) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("up")) == 2)
        assert len(supervisor.pids) == 2
        supervisor.stop()
        await running
        await stage.until(lambda: len(stage.told("down")) == 2)
    assert stage.beats == []  # they took their leave themselves


async def test_a_dead_process_is_buried_at_once_and_started_again(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(lease_s=30.0)) as (stage, supervisor, _):
        await stage.until(lambda: len(stage.told("up")) == 1)
        pid, worker_id = stage.told("up")[0][1:]
        died_at = time.monotonic()
        os.kill(int(pid), signal.SIGKILL)
        await stage.until(lambda: len(stage.told("up")) == 2)
        (buried,) = stage.beats
        assert buried[1].worker.id == worker_id
        assert buried[1].ttl_s == 0
        assert buried[0] - died_at < 1.0
        assert stage.told("up")[1][1:] != [pid, worker_id]
        assert supervisor.restarts == 1


async def test_a_burial_waits_for_a_store_that_is_down(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(lease_s=30.0)) as (stage, _, _):
        await stage.until(lambda: len(stage.told("up")) == 1)
        stage.down = True
        os.kill(int(stage.told("up")[0][1]), signal.SIGKILL)
        await asyncio.sleep(0.1)  # so that its first try fails
        stage.down = False
        await stage.until(lambda: len(stage.beats) == 1)
        await stage.until(lambda: len(stage.told("up")) == 2)


async def test_a_process_that_dies_again_and_again_is_restarted_ever_more_slowly(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(), job="die") as (stage, _, _):
        await stage.until(lambda: len(stage.told("dying")) >= 3)
        await stage.until(lambda: len(stage.beats) >= 3)
    assert len({beat.worker.id for _, beat in stage.beats}) == len(stage.beats)


async def test_the_supervisor_beats_for_a_worker_whose_handler_holds_the_gil(tmp_path: Path) -> None:
    """FAULTS 4: for three leases; afterwards the worker knows that its lease held, and its outcome counts."""
    settings = quick(lease_s=0.6, beat_s=0.15, lease_margin_s=0.1)
    async with staged(tmp_path, settings, job="hold_the_gil", seconds=1.8) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("holding")) == 1)
        holding_at = time.monotonic()
        await stage.until(lambda: len(stage.told("settled")) == 2)
        pid = stage.told("up")[0][1]
        assert stage.told("settled") == [["settled", pid, "Complete", "applied"]] * 2
        during = [at for at, beat in stage.beats if at < holding_at + 1.8 and beat.ttl_s == settings.lease_s]
        assert len(during) >= 3
        gaps = [b - a for a, b in zip([holding_at, *during], during, strict=False)]
        assert max(gaps) < settings.lease_s
        supervisor.stop()
        await running
        await stage.until(lambda: len(stage.told("down")) == 1)
    assert len(stage.told("up")) == 1  # the same process, from the first to the last


async def test_a_second_stop_makes_the_workers_hand_back(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(grace_s=60.0), job="wait", seconds=60.0) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("waiting")) == 1)
        supervisor.stop()
        supervisor.stop()
        await running
        await stage.until(lambda: len(stage.told("settled")) == 1)
    assert stage.told("settled")[0][2:] == ["Release", "applied"]


async def test_a_deaf_handler_does_not_keep_its_process_from_ending(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(grace_s=0.0), job="deaf") as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("waiting")) == 1)
        supervisor.stop()
        await asyncio.wait_for(running, DEADLINE_S)
    assert stage.told("settled")[0][2:] == ["Release", "applied"]


async def test_a_signal_to_the_whole_group_counts_once(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(grace_s=60.0), job="wait", seconds=0.5) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("waiting")) == 1)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(supervisor.pids[0], number)
        supervisor.stop()
        await running
        await stage.until(lambda: len(stage.told("settled")) == 1)
    assert stage.told("settled")[0][2:] == ["Complete", "applied"]


async def test_a_worker_whose_supervisor_is_gone_stops_gracefully(tmp_path: Path) -> None:
    """The supervisor is a process of its own here, and is killed."""
    stage = Stage(tmp_path / "reports")
    await stage.open()
    settings = quick()
    payload = msgspec.json.encode(Payload(str(stage.path), settings, "wait", 0.5)).decode()
    code = (
        "import asyncio, sys, msgspec\n"
        "from goqueue.engine.supervisor import Supervisor\n"
        "from goqueue.settings import WorkerSettings\n"
        "async def extend(beat): raise AssertionError\n"
        "async def main():\n"
        "    await Supervisor(sys.argv[1], sys.argv[2], WorkerSettings(), extend=extend).run()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, TARGET, payload, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        await stage.until(lambda: len(stage.told("waiting")) == 1)
    finally:
        process.kill()
        await process.wait()
    await stage.until(lambda: len(stage.told("down")) == 1)
    assert stage.told("settled")[0][2:] == ["Complete", "applied"]
    await stage.close()


async def test_a_worker_that_is_not_configured_is_not_started_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with staged(tmp_path, quick(processes=2), job="misconfigured") as (_, supervisor, running):
        with pytest.raises(ConfigurationError):
            await running
    assert supervisor.restarts == 0
    assert "there is no store" in capfd.readouterr().err


async def test_a_stop_before_the_start_ends_at_once(tmp_path: Path) -> None:
    supervisor = Supervisor(TARGET, "", quick(), extend=Stage(tmp_path).extend)
    supervisor.stop()
    await asyncio.wait_for(supervisor.run(), DEADLINE_S)
    assert supervisor.pids == ()


async def test_a_process_full_of_hung_handlers_is_recycled_gracefully(tmp_path: Path) -> None:
    """FAULTS 13: their outcomes are decided, what else runs may finish, and another process takes its place."""
    async with staged(tmp_path, quick(concurrency=2, threads=2), "hang", 600.0) as (stage, supervisor, _):
        await stage.until(lambda: len(stage.told("up")) == 2)
        assert supervisor.restarts == 1
        pid = stage.told("up")[0][1]
        settled = sorted(report[2:] for report in stage.told("settled", pid))
        assert settled == [["Complete", "applied"], ["Retry", "applied"], ["Retry", "applied"]]
    assert all(beat.worker.pid != int(pid) for _, beat in stage.beats)  # it took its leave itself
