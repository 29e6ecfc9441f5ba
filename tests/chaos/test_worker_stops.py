"""Fault 10: a stop loses nothing and repeats nothing. Fault 6: nothing starts before its time."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from tests.chaos.harness import Chaos, end_all
from tests.support.processes import Process

COMPLETED = 3
SLOTS, AHEAD = 2, 20
READY = timedelta(seconds=1)


def full(chaos: Chaos, **variables: str) -> tuple[Process, list[str], list[str]]:
    """A worker whose slots wait at gate ``g``, and which has claimed twenty more."""
    fleet = chaos.worker("--concurrency", f"{SLOTS}", GOQUEUE_WORKER_PREFETCH=f"{AHEAD}", **variables)
    running = chaos.enqueue("gated", SLOTS, name="g")
    for id in running:
        chaos.wait_started(id)
    claimed = chaos.enqueue("work", AHEAD)
    chaos.wait(lambda: all(chaos.row(id)["state"] == 1 for id in claimed), "the worker claims ahead")
    return fleet, running, claimed


def wait_for_more(chaos: Chaos, ids: list[str], count: int) -> None:
    wanted = len(ids) + count
    chaos.wait(lambda: len(ids) >= wanted, "jobs flow")


def stop_begins(chaos: Chaos, fleet: Process, claimed: list[str]) -> None:
    """SIGTERM: what has not started is ready again at once, and no attempt is spent."""
    told_at = chaos.clock()
    fleet.send(signal.SIGTERM)
    chaos.wait(lambda: all(chaos.row(id)["state"] == 0 for id in claimed), "what has not started is ready again")
    assert {chaos.row(id)["attempt"] for id in claimed} == {0}
    back_at = [chaos.moves(id)[-1].step.at for id in claimed]
    assert max(back_at) - told_at < READY * chaos.pick(5, 1), "in under 1 s, where the machine is not busy"


def states(chaos: Chaos, ids: list[str]) -> set[tuple[int, int]]:
    return {(row["state"], row["attempt"]) for row in map(chaos.row, ids)}


def test_10_a_second_sigterm(chaos: Chaos) -> None:
    """What runs is handed back at once, under its fence; nobody has waited for the end of the grace period."""
    fleet, running, claimed = full(chaos)
    stop_begins(chaos, fleet, claimed)
    assert states(chaos, running) == {(1, 1)}, "what runs may go on"
    fleet.send(signal.SIGTERM)
    assert fleet.end() == 0, fleet.output
    assert states(chaos, running) == {(0, 0)}
    chaos.open_gate("g")
    other = chaos.worker()
    chaos.settle()
    assert other.stop() == 0, other.output
    assert {tuple(chaos.story(id)) for id in running + claimed} == {
        ("enqueue", "claim", "hand_back", "claim", "complete")
    }
    assert {len(chaos.ledger.find("start", id=id)) for id in claimed} == {1}
    chaos.check()


@pytest.mark.full
def test_10_sigterm_with_a_full_prefetch(chaos: Chaos) -> None:
    """What runs comes to its end inside the grace period."""
    fleet, running, claimed = full(chaos)
    stop_begins(chaos, fleet, claimed)
    chaos.open_gate("g")
    assert fleet.end() == 0, fleet.output
    assert states(chaos, running) == {(COMPLETED, 1)}
    other = chaos.worker()
    chaos.settle()
    assert other.stop() == 0, other.output
    assert {len(chaos.ledger.find("start", id=id)) for id in running + claimed} == {1}
    chaos.check()


@pytest.mark.full
def test_10_the_end_of_the_grace_period(chaos: Chaos) -> None:
    fleet, running, claimed = full(chaos, GOQUEUE_WORKER_GRACE_S="0.3")
    stop_begins(chaos, fleet, claimed)
    assert fleet.end() == 0, fleet.output
    assert states(chaos, running) == {(0, 0)}
    chaos.open_gate("g")
    other = chaos.worker()
    chaos.settle()
    assert other.stop() == 0, other.output
    assert states(chaos, running) == {(COMPLETED, 1)}
    chaos.check()


def test_10_graceful_restarts_under_load(chaos: Chaos) -> None:
    """Two workers restarted in turn while jobs flow: none is lost, none runs twice."""
    fleets = [chaos.worker("--concurrency", "5") for _ in range(2)]
    with chaos.flow("work", ms=30) as ids:
        for round_ in range(chaos.pick(1, 20)):
            wait_for_more(chaos, ids, 20)
            assert fleets[round_ % 2].stop() == 0, fleets[round_ % 2].output
            fleets[round_ % 2] = chaos.worker("--concurrency", "5")
    chaos.settle()
    end_all(fleets)
    starts = [entry.id for entry in chaos.ledger.find("start")]
    assert sorted(starts) == sorted(ids), "each has run, and once"
    assert {chaos.row(id)["attempt"] for id in ids} == {1}
    chaos.check()


def test_06_a_job_for_tomorrow(chaos: Chaos) -> None:
    """Not claimed before its time, whatever leases and sweeps do meanwhile; once after it."""
    fleet = chaos.worker()
    soon = chaos.enqueue_one("work", options={"delay_s": 1.0})
    tomorrow = chaos.enqueue_one("work", options={"delay_s": 86_400.0})
    during = chaos.enqueue_one("work", ms=1_500)
    chaos.settle(besides=[tomorrow])
    assert chaos.story(during) == ["enqueue", "claim", "complete"]
    assert chaos.story(tomorrow) == ["enqueue"]
    # A day passes: its instant comes to us, for the store's clock cannot be moved under a running worker.
    chaos.sql("UPDATE goqueue.job SET run_at = run_at - interval '86400 s' WHERE id = %s", tomorrow)
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    for id in (soon, tomorrow):
        assert chaos.story(id) == ["enqueue", "claim", "complete"]
        claim = chaos.moves(id)[1]
        assert claim.after is not None
        due = chaos.sql("SELECT %s::text::timestamptz", claim.after["run_at"])[0][0]
        assert claim.step.at >= due, "it was claimed too early"
    chaos.check()
