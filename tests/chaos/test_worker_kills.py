"""Faults 1, 2, 3, 5, 9 and 32: processes that are killed, and what they held."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import psutil
import pytest

from goqueue.model.job import Unique
from tests.chaos.harness import LEASE_S, SWEEP_S, Chaos, lives
from tests.support.processes import Process

COMPLETED, DEAD = 3, 5
SLACK = timedelta(seconds=10)
"""For a busy machine, in what is bounded by settings of a second or less."""
SLOTS = 2


def kill_all(chaos: Chaos, fleet: Process) -> None:
    """All of it at one instant, as when a machine is lost: nobody may see the death of another and act on it."""
    processes = chaos.tree(fleet)
    for process in processes:
        process.suspend()
    chaos.kill(*processes)
    fleet.end()


def hold(chaos: Chaos, *arguments: str, **variables: str) -> tuple[Process, list[str], list[str]]:
    """A worker with all its slots busy behind gate ``g``, and as many jobs claimed and not started."""
    fleet = chaos.worker("--concurrency", f"{SLOTS}", *arguments, **variables)
    running = chaos.enqueue("gated", SLOTS, name="g")
    for id in running:
        chaos.wait_started(id)
    claimed = chaos.enqueue("work", SLOTS)
    chaos.wait(lambda: all(chaos.row(id)["state"] == 1 for id in claimed), "the worker claims ahead")
    return fleet, running, claimed


def counts(chaos: Chaos, ids: list[str]) -> set[tuple[int, int, int]]:
    rows = [chaos.row(id) for id in ids]
    return {(row["state"], row["attempt"], row["crashes"]) for row in rows}


def test_01_kill_9_of_a_worker_process(chaos: Chaos) -> None:
    """Its supervisor lives: it knows which jobs had started, and those alone are counted."""
    fleet, running, claimed = hold(chaos)
    more = chaos.enqueue("work", chaos.pick(10, 1_000), ms=5)
    chaos.kill(chaos.runner_of(running[0]))
    chaos.open_gate("g")
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    assert counts(chaos, running) == {(COMPLETED, 2, 1)}
    assert counts(chaos, claimed + more) == {(COMPLETED, 1, 0)}
    chaos.check()


@pytest.mark.full
def test_01_kill_9_of_the_supervisor(chaos: Chaos) -> None:
    """Its worker process finishes what it runs, hands back the rest, and leaves."""
    fleet, running, claimed = hold(chaos)
    child = chaos.runner_of(running[0])
    chaos.kill(psutil.Process(fleet.pid))
    fleet.popen.wait()
    chaos.wait(lambda: all(chaos.row(id)["state"] == 0 for id in claimed), "what has not started is handed back")
    chaos.open_gate("g")
    chaos.wait(lambda: not lives(child), "the worker process leaves")
    other = chaos.worker()
    chaos.settle()
    assert other.stop() == 0, other.output
    assert counts(chaos, running + claimed) == {(COMPLETED, 1, 0)}
    chaos.check()


@pytest.mark.full
def test_01_kill_9_of_a_whole_worker_again_and_again(chaos: Chaos) -> None:
    """Nobody is left to say which jobs had started: after the lease and a sweep each has a crash, and runs again."""
    with chaos.flow("work", ms=20) as ids:
        for _ in range(6):
            fleet = chaos.worker("--concurrency", "3")
            wanted = len(ids) + chaos.random.randrange(10, 60)
            chaos.wait(lambda wanted=wanted: len(ids) >= wanted, "jobs flow")  # type: ignore[misc]  # bound at once
            kill_all(chaos, fleet)
    last = chaos.worker()
    chaos.settle()
    assert last.stop() == 0, last.output
    assert {chaos.row(id)["state"] for id in ids} <= {COMPLETED, DEAD}
    assert any("sweep" in chaos.story(id) for id in ids), "no kill hit a running job: this has shown nothing"
    chaos.check()


def test_02_kill_9_on_the_last_attempt(chaos: Chaos) -> None:
    """Dead with reason ``crashed``: its supervisor says so."""
    fleet = chaos.worker()
    id = chaos.enqueue_one("gated", options={"max_attempts": 1}, name="never")
    chaos.wait_started(id)
    chaos.kill(chaos.runner_of(id))
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    is_dead_by_its_crash(chaos, id)
    chaos.check()


@pytest.mark.full
def test_02_kill_9_of_a_whole_worker_on_the_last_attempt(chaos: Chaos) -> None:
    """Dead with reason ``crashed``: a sweep finds out."""
    fleet = chaos.worker()
    id = chaos.enqueue_one("gated", options={"max_attempts": 1}, name="never")
    chaos.wait_started(id)
    kill_all(chaos, fleet)
    other = chaos.worker()
    chaos.settle()
    assert other.stop() == 0, other.output
    is_dead_by_its_crash(chaos, id)
    chaos.check()


def is_dead_by_its_crash(chaos: Chaos, id: str) -> None:
    row = chaos.row(id)
    assert (row["state"], row["attempt"], row["crashes"], row["reason"]) == (DEAD, 1, 1, "crashed")
    assert len(row["errors"]) == 1
    assert len(chaos.ledger.find("start", id=id)) == 1


def test_03_a_job_five_times_as_long_as_the_lease(chaos: Chaos) -> None:
    """Claimed once, for its worker lives."""
    lease_s = chaos.pick(1, 4) / 2
    fleet = chaos.worker(
        GOQUEUE_WORKER_LEASE_S=f"{lease_s}", GOQUEUE_WORKER_BEAT_S="0.1", GOQUEUE_WORKER_LEASE_MARGIN_S="0.05"
    )
    id = chaos.enqueue_one("work", ms=int(lease_s * 5_000))
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    assert chaos.story(id) == ["enqueue", "claim", "complete"]
    chaos.check()


def test_05_a_worker_restarted_within_the_lease(chaos: Chaos) -> None:
    """A worker is a process, not a name: what the old one held is recovered after lease and sweep, and not before.

    Also the other half of 3: after a ``kill -9`` of all its processes a job is claimed again within that time.
    """
    fleet, running, claimed = hold(chaos)
    kill_all(chaos, fleet)
    killed_at = chaos.clock()
    again = chaos.worker("--concurrency", f"{SLOTS}")  # same host, same command, within the lease
    started_at = chaos.clock()
    chaos.open_gate("g")
    chaos.settle()
    assert again.stop() == 0, again.output
    # That no lease was swept too early is the checker's business (Law.ALIVE).
    assert counts(chaos, running + claimed) == {(COMPLETED, 2, 1)}
    for id in running + claimed:
        sweep = chaos.moves(id)[2]
        assert sweep.kind == "sweep"
        assert sweep.step.at < max(killed_at + timedelta(seconds=LEASE_S + SWEEP_S), started_at) + SLACK
    chaos.check()


def test_05_a_worker_row_removed_by_hand(chaos: Chaos) -> None:
    """The row is missing, so no sweep for expired workers can find its jobs: the full sweep does."""
    fleet, running, claimed = hold(chaos, GOQUEUE_WORKER_LEASE_S="600")
    (expires_at,) = chaos.sql("SELECT max(expires_at) FROM goqueue.worker")[0]
    kill_all(chaos, fleet)
    chaos.sql("DELETE FROM goqueue.worker")
    other = chaos.worker("--concurrency", f"{SLOTS}")
    chaos.open_gate("g")
    chaos.settle()
    assert other.stop() == 0, other.output
    assert counts(chaos, running + claimed) == {(COMPLETED, 2, 1)}
    swept = [move.step.at for id in running + claimed for move in chaos.moves(id) if move.kind == "sweep"]
    assert isinstance(expires_at, datetime)
    assert max(swept) < expires_at, "they waited for the lease"
    chaos.check()


def test_09_a_crash_while_holding_a_unique_key(chaos: Chaos) -> None:
    """The key goes with the job: kept while it will run again, free when it is dead.

    Concurrency permits and rate tokens do not exist yet; they are to be held and freed with the lease in the same way.
    """
    fleet = chaos.worker()
    once = Unique(key="one")
    id = chaos.enqueue_one("gated", options={"unique": once, "max_attempts": 2}, name="never")
    chaos.wait_started(id)
    chaos.kill(chaos.runner_of(id))
    chaos.wait(lambda: chaos.row(id)["crashes"] == 1, "its crash is counted")
    assert chaos.enqueue_one("work", options={"unique": once}) == id, "a job that will run again keeps its key"
    chaos.wait_started(id, attempt=2)
    assert chaos.enqueue_one("work", options={"unique": once}) == id, "and has it while it runs"
    chaos.kill(chaos.runner_of(id))
    chaos.wait(lambda: chaos.is_final(id), "it is dead by its last attempt")
    after = chaos.enqueue_one("work", options={"unique": once})
    assert after != id, "a dead job has freed its key"
    chaos.settle()
    assert chaos.row(after)["state"] == COMPLETED
    assert chaos.sql("SELECT 1 FROM goqueue.job_key") == []
    assert fleet.stop() == 0, fleet.output
    chaos.check()


def test_32_a_crash_between_return_and_settle(chaos: Chaos) -> None:
    """It runs again with the same token, so that a service can tell that it has seen it."""
    fleet = chaos.worker()
    twice: list[str] = []
    ids: list[str] = []
    while len(twice) < chaos.pick(1, 5):
        assert len(ids) < 50, "no crash came before the settle"
        ids.append(chaos.enqueue_one("token"))
        chaos.wait(lambda: chaos.is_final(ids[-1]), "it has run again")
        # Now and then the outcome is on its way before the handler's process is killed.
        if len(chaos.ledger.find("effect", id=ids[-1])) > 1:
            twice.append(ids[-1])
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    for id in ids:
        effects = chaos.ledger.find("effect", id=id)
        assert len({entry.fields["what"] for entry in effects}) == 1
        ends = chaos.ledger.find("end", id=id, outcome="returned")
        assert len(ends) == len(effects), "the crash came before the return"
        assert chaos.row(id)["state"] == COMPLETED
    assert len({entry.fields["what"] for entry in chaos.ledger.find("effect")}) == len(ids), "one token for each job"
    chaos.check()


def test_32_an_effect_in_the_jobs_own_transaction_happens_once(chaos: Chaos) -> None:
    """Killed before the commit, after it, or not at all: the effect and the completion are one."""
    chaos.sql("CREATE TABLE public.exact_effect (id uuid, fence bigint)")
    fleet = chaos.worker()
    deaths = ["before the commit", "after the commit", "never"] * chaos.pick(1, 8)
    chaos.random.shuffle(deaths)
    died = {}
    for death in deaths:
        job = chaos.enqueue_one("exact", die=death)
        died[job] = death
        chaos.wait(partial(chaos.is_final, job), f"it has died {death}, and is completed")
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    for id, death in died.items():
        row = chaos.row(id)
        again = death == "before the commit"
        assert (row["state"], row["attempt"], row["crashes"]) == (COMPLETED, 2 if again else 1, 1 if again else 0), (
            death
        )
        assert chaos.sql("SELECT fence FROM public.exact_effect WHERE id = %s", id) == [(row["fence"],)], death
        assert row["result"]["fence"] == row["fence"]
    assert len(fleet.output.split("killed by SIGKILL")) > 1, "nobody was killed: this has shown nothing"
    assert "CompletionRolledBack" not in fleet.output
    chaos.check()
