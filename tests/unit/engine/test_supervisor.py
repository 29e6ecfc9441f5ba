"""The supervisor and its worker processes: they live, die, hang and stop."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from goqueue.engine import burials
from goqueue.engine.child import EXIT_BROKEN
from goqueue.engine.supervisor import Supervisor
from goqueue.model.errors import ConfigurationError
from goqueue.model.outcome import Complete, Crash, Release, Settlement
from tests.unit.engine.child_target import Payload
from tests.unit.engine.faults import DEADLINE_S, quick
from tests.unit.engine.stage import TARGET, Stage, staged


async def test_all_processes_run_and_a_stop_ends_them_gracefully(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(processes=2)) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("up")) == 2)
        assert len(supervisor.pids) == 2
        supervisor.stop()
        await running
        await stage.until(lambda: len(stage.told("down")) == 2)
    assert stage.beats == []  # they took their leave themselves


async def test_a_dead_process_is_buried_at_once_and_started_again(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(lease_s=30.0), "wait", 600.0) as (stage, supervisor, _):
        await stage.until(lambda: len(stage.told("waiting")) == 1)
        pid, worker_id = stage.told("up")[0][1:]
        died_at = time.monotonic()
        os.kill(int(pid), signal.SIGKILL)
        await stage.until(lambda: len(stage.told("up")) == 2)
        assert {beat.worker.id for _, beat in stage.beats} == {worker_id}
        assert [beat.ttl_s for _, beat in stage.beats] == [30.0, 30.0, 0.0]
        assert stage.beats[-1][0] - died_at < 1.0
        assert stage.told("up")[1][1:] != [pid, worker_id]
        assert supervisor.restarts == 1


async def test_a_burial_waits_for_a_store_that_is_down_and_the_next_process_does_not(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(lease_s=60.0), "wait", 600.0) as (stage, _, _):
        await stage.until(lambda: len(stage.told("waiting")) == 1)
        stage.down = True
        pid = stage.told("up")[0][1]
        os.kill(int(pid), signal.SIGKILL)
        await stage.until(lambda: len(stage.told("up")) == 2)
        assert stage.settled == []
        stage.down = False
        crashes, _ = await buried(stage, pid, 1)
        assert [one.ref.id for one in crashes] == [stage.told("claimed", pid)[0][2]]


async def test_a_stop_waits_for_a_burial_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burials, "END_S", 0.5)
    with capture_logs() as logs:
        async with staged(tmp_path, quick(), "wait", 600.0) as (stage, supervisor, running):
            await stage.until(lambda: len(stage.told("waiting")) == 1)
            stage.down = True
            os.kill(int(stage.told("up")[0][1]), signal.SIGKILL)
            await stage.until(lambda: len(stage.told("up")) == 2)
            supervisor.stop(now=True)
            await asyncio.wait_for(running, DEADLINE_S)
    assert [line["complete"] for line in logs if "complete" in line] == [False]


async def test_a_process_that_dies_again_and_again_is_restarted_ever_more_slowly(tmp_path: Path) -> None:
    async with staged(tmp_path, quick(), job="die") as (stage, _, _):
        await stage.until(lambda: len(stage.told("dying")) >= 3)
        await stage.until(lambda: len(stage.settled) >= 3)
    assert {type(one.outcome) for one in stage.settled} == {Crash}
    left = [beat.worker.id for _, beat in stage.beats if beat.ttl_s == 0]
    assert len(set(left)) == len(left) >= 3


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


async def test_a_worker_whose_supervisor_is_gone_stops_gracefully_and_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
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
        "    await Supervisor(sys.argv[1], sys.argv[2], WorkerSettings(), extend=extend, settle=extend).run()\n"
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
    assert "the supervisor has gone" in capfd.readouterr().out


async def test_a_worker_that_is_not_configured_is_not_started_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with staged(tmp_path, quick(processes=2), job="misconfigured") as (_, supervisor, running):
        with pytest.raises(ConfigurationError):
            await running
    assert supervisor.restarts == 0
    assert "there is no store" in capfd.readouterr().err


async def test_a_wrong_configuration_ends_nothing_once_a_worker_has_worked(tmp_path: Path) -> None:
    """A password is changed, a deployment is half done: it comes and goes, and whoever still works goes on."""
    async with staged(tmp_path, quick(), job="only_one") as (stage, supervisor, running):
        await stage.until(lambda: any(one.up.is_set() for one in supervisor._living))
        os.kill(supervisor.pids[0], signal.SIGKILL)
        await stage.until(lambda: supervisor.restarts >= 3 or running.done())
        assert not running.done()


async def test_a_stop_before_the_start_ends_at_once(tmp_path: Path) -> None:
    supervisor = Supervisor(TARGET, "", quick(), extend=Stage(tmp_path).extend, settle=Stage(tmp_path).settle)
    supervisor.stop()
    await asyncio.wait_for(supervisor.run(), DEADLINE_S)
    assert supervisor.pids == ()


async def test_a_process_full_of_hung_handlers_is_recycled_gracefully(tmp_path: Path) -> None:
    """FAULTS 13: their outcomes are decided, what else runs may finish, and another process takes its place."""
    async with staged(tmp_path, quick(concurrency=2, threads=2, cancel_grace_s=0.05), "hang", 600.0) as (
        stage,
        supervisor,
        _,
    ):
        await stage.until(lambda: len(stage.told("up")) == 2)
        assert supervisor.restarts == 1
        pid = stage.told("up")[0][1]
        await stage.until(lambda: ["Complete", "applied"] in [report[2:] for report in stage.told("settled", pid)])
        settled = sorted(report[2:] for report in stage.told("settled", pid))
        # On a slow machine the two fall due once more before the other process is up.
        assert settled[:3] == [["Complete", "applied"], ["Retry", "applied"], ["Retry", "applied"]]
        assert ["Retry", "applied"] * len(settled[1:]) == [word for one in settled[1:] for word in one]
    assert all(beat.worker.pid != int(pid) for _, beat in stage.beats)  # it took its leave itself


# -- precise burials ------------------------------------------------------------------------------


async def buried(stage: Stage, pid: str, count: int) -> tuple[list[Settlement], list[Settlement]]:
    """Wait until ``count`` jobs of a dead process are settled; return the crashes and the others."""
    await stage.until(lambda: len(stage.settled) >= count and any(beat.ttl_s == 0 for _, beat in stage.beats))
    assert stage.undecided(pid) == []
    ids = {id for _, _, id, _ in stage.told("claimed", pid)}
    settled = [one for one in stage.settled if one.ref.id in ids]
    crashes = [one for one in settled if isinstance(one.outcome, Crash)]
    return crashes, [one for one in settled if not isinstance(one.outcome, Crash)]


def why(crash: Settlement) -> str:
    assert isinstance(crash.outcome, Crash)
    return crash.outcome.error.message


@pytest.mark.parametrize(
    "job, how", [("die", "killed by SIGKILL"), ("exit_0", "exit code 0")], ids=["kill -9", "exit 0"]
)
async def test_only_what_had_started_counts_a_crash_when_its_process_dies(tmp_path: Path, job: str, how: str) -> None:
    async with staged(tmp_path, quick(concurrency=1, prefetch=5, lease_s=30.0), job, others=9) as (stage, _, _):
        await stage.until(lambda: len(stage.told("dying")) >= 1)
        pid = stage.told("dying")[0][1]
        claimed = [id for _, _, id, _ in stage.told("claimed", pid)]
        crashes, others = await buried(stage, pid, len(claimed))
        assert len(claimed) == 6
        assert [one.ref.id for one in crashes] == claimed[:1]
        assert how in why(crashes[0])
        assert [(one.ref.id, type(one.outcome)) for one in others] == [(id, Release) for id in claimed[1:]]


async def test_a_handler_that_holds_the_gil_past_its_timeout_is_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its process is alive and never answers again; its stacks are in the log, its job counts a crash."""
    settings = quick(concurrency=1, prefetch=5, lease_s=1.0, stuck_s=1.0, cancel_grace_s=0.05)
    async with staged(tmp_path, settings, "hold_past_timeout", 600.0, others=9) as (stage, supervisor, _):
        await stage.until(lambda: len(stage.told("holding")) >= 1)
        pid = stage.told("holding")[0][1]
        claimed = [id for _, _, id, _ in stage.told("claimed", pid)]
        crashes, others = await buried(stage, pid, len(claimed))
        assert [one.ref.id for one in crashes] == claimed[:1]
        assert "did not answer" in why(crashes[0])
        assert {type(one.outcome) for one in others} == {Release}
        assert len(others) == 5
        await stage.until(lambda: len(stage.told("up")) >= 2)
        # Until it was killed its leases held: nobody else could begin its jobs beside it.
        beats = [at for at, beat in stage.beats if str(beat.worker.pid) == pid]
        assert max(after - before for before, after in itertools.pairwise(beats)) < settings.lease_s
        assert supervisor.restarts >= 1
    assert "in hold_past_timeout" in capfd.readouterr().err


async def test_a_loop_that_is_stuck_with_nothing_running_is_killed_and_started_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with staged(tmp_path, quick(lease_s=1.0, stuck_s=1.0), "deadlock") as (stage, _, _):
        await stage.until(lambda: len(stage.told("deadlocked")) >= 1)
        pid = stage.told("deadlocked")[0][1]
        await stage.until(lambda: len(stage.told("up")) >= 2)
        assert stage.told("up")[1][1] != pid
        assert stage.settled == []
    assert "in deadlock" in capfd.readouterr().err


async def test_outcomes_that_the_store_did_not_take_before_the_end_are_no_crashes(tmp_path: Path) -> None:
    """The store is away for the worker, which stops; its supervisor reaches the store, or does later."""
    settings = quick(concurrency=1, prefetch=5)
    async with staged(tmp_path, settings, "cut_off", others=3) as (stage, supervisor, running):
        await stage.until(lambda: len(stage.told("cut_off")) == 1)
        pid = stage.told("up")[0][1]
        claimed = [id for _, _, id, _ in stage.told("claimed", pid)]
        supervisor.stop()
        await asyncio.wait_for(running, DEADLINE_S)
    assert stage.undecided(pid) == []
    outcomes = {one.ref.id: one.outcome for one in stage.settled}
    assert outcomes[claimed[0]] == Complete(b'"done"')
    assert {type(outcomes[id]) for id in claimed[1:]} <= {Complete, Release}
    assert set(outcomes) == set(claimed)


async def test_a_worker_whose_keeper_has_died_ends_with_an_error_and_is_replaced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Alive, it would never beat again."""
    with capture_logs() as logs:
        async with staged(tmp_path, quick(lease_s=30.0), "broken_keeper") as (stage, _, _):
            await stage.until(lambda: len(stage.told("up")) == 2)
    assert next(line["exit_code"] for line in logs if line["event"] == "restart") == EXIT_BROKEN
    assert "a bug in the keeper" in capfd.readouterr().out
