"""Faults 4, 11, 12 and 13: processes and handlers that stall, are given up, and come back."""

from __future__ import annotations

import time

import pytest

from tests.chaos.harness import LEASE_S, Chaos, end_all

COMPLETED, CANCELLED, DEAD = 3, 4, 5
HELD_BY = """
SELECT 1 FROM goqueue.job AS j JOIN goqueue.worker AS w ON w.id = j.worker_id WHERE j.state = 1 AND w.pid = ANY (%s)
"""
CRASHED = "SELECT 1 FROM goqueue.job WHERE crashes > 0"
LIMITS = {"timeout_s": 0.3, "max_attempts": 1}


def test_04_a_handler_that_holds_the_gil(chaos: Chaos) -> None:
    """For three leases: its supervisor beats for it, and nobody runs the job a second time."""
    fleet = chaos.worker("--processes", "2")
    ids = [chaos.enqueue_one("hold_gil", s=3 * LEASE_S) for _ in range(chaos.pick(1, 4))]
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    assert all(chaos.story(id) == ["enqueue", "claim", "complete"] for id in ids)
    chaos.check()


@pytest.mark.full
def test_04_a_handler_that_holds_the_gil_without_a_supervisor_to_speak_for_it(chaos: Chaos) -> None:
    """The beats miss, so somebody else may run it: then the first result is refused."""
    fleet = chaos.worker()
    id = chaos.enqueue_one("hold_gil", s=4 * LEASE_S)
    chaos.wait_started(id)
    supervisor = chaos.tree(fleet)[:1]
    with chaos.stopped(supervisor):
        other = chaos.worker()
        chaos.wait_started(id, attempt=2)
        chaos.wait_ended(id)
        chaos.settle()
    end_all([fleet, other])
    assert chaos.story(id) == ["enqueue", "claim", "sweep", "claim", "complete"]
    assert chaos.row(id)["result"] == {"fence": 3, "attempt": 2}
    chaos.check()


def wait_held_by(chaos: Chaos, pids: list[int]) -> None:
    chaos.wait(lambda: chaos.sql(HELD_BY, pids), "these processes hold jobs")


def test_11_a_rescue_that_races_a_completion_or_a_claim(chaos: Chaos) -> None:
    """A worker is stopped for about its lease again and again: its outcomes, sweeps and others' claims meet."""
    # Few slots: each job that is held when a lease runs out is a suspect, and takes a process of its own.
    fleets = [chaos.worker("--concurrency", f"{chaos.pick(3, 10)}") for _ in range(2)]
    for round_ in range(chaos.pick(2, 25)):
        for _ in range(chaos.pick(8, 20)):
            chaos.enqueue("work", 2, ms=chaos.random.randrange(0, int(1_500 * LEASE_S)))
        victim = chaos.tree(chaos.random.choice(fleets))
        if round_ == 0:
            wait_held_by(chaos, [one.pid for one in victim])
        with chaos.stopped(victim):
            if round_ == 0:
                chaos.wait(lambda: chaos.sql(CRASHED), "its lease runs out")
            else:
                time.sleep(chaos.random.uniform(0.8, 1.4) * LEASE_S)  # the fault itself: how long it lasts
    chaos.settle()
    end_all(fleets)
    stories = [chaos.story(entry.id) for entry in chaos.ledger.find("sent")]
    assert any("sweep" in story for story in stories), "no lease ran out: this has shown nothing"
    chaos.check()


def test_12_a_zombie(chaos: Chaos) -> None:
    """Stopped past its lease, replaced, and continued: nothing that its first attempt does changes anything."""
    first = chaos.worker()
    ids = {then: chaos.enqueue_one("zombie", name="g", then=then) for then in ("complete", "fail")}
    for id in ids.values():
        chaos.wait_started(id)
    with chaos.stopped(chaos.tree(first)):
        second = chaos.worker()
        for id in ids.values():
            chaos.wait_started(id, attempt=2)
        before = {id: chaos.row(id) for id in ids.values()}
        chaos.open_gate("woken")
    for id in ids.values():
        chaos.wait_ended(id)
        (refused,) = chaos.ledger.find("child_refused", id=id)
        assert refused.fields["error"] == "LeaseLost", refused
    assert first.stop() == 0, first.output  # it has beaten, and sent all that it had to send
    for id, row in before.items():
        assert chaos.row(id) == row, "the zombie has changed the row of the second attempt"
    chaos.open_gate("g")
    chaos.settle()
    assert second.stop() == 0, second.output
    for id in ids.values():
        assert chaos.story(id) == ["enqueue", "claim", "sweep", "claim", "complete"]
        assert chaos.row(id)["result"] == {"fence": 3, "attempt": 2}
        assert chaos.row(id)["progress"] is None
        assert [error["type"] for error in chaos.row(id)["errors"]] == ["WorkerCrashed"]
    assert chaos.sql("SELECT 1 FROM goqueue.job WHERE kind = 'child'") == []
    assert chaos.sql("SELECT 1 FROM goqueue.job_history WHERE kind = 'child'") == []
    chaos.check()


def test_13_handlers_that_ignore_their_stop(chaos: Chaos) -> None:
    """Reported with their stack, and their slots go to others: on the loop, in threads, and killed in a process.

    Three have a timeout, one is cancelled.
    """
    kinds = ("stubborn", "stubborn_in_thread", "stubborn_in_process")
    fleet = chaos.worker("--concurrency", "4", GOQUEUE_WORKER_HUNG_MAX="4")
    ids = {kind: chaos.enqueue_one(kind, options=LIMITS, name="g") for kind in kinds}
    cancelled = chaos.enqueue_one("stubborn", name="g")
    chaos.wait_started(cancelled)
    chaos.client.cancel(cancelled)
    others = chaos.enqueue("work", chaos.pick(5, 200))
    chaos.settle()  # with all slots taken by them
    assert {chaos.row(id)["state"] for id in others} == {COMPLETED}
    for kind, id in ids.items():
        row = chaos.row(id)
        assert (row["state"], row["attempt"], row["crashes"]) == (DEAD, 1, 0), row
        if kind != "stubborn_in_process":
            assert f"in {kind}" in row["errors"][0]["message"] + row["errors"][0]["traceback"], row["errors"]
            assert f"in {kind}" in fleet.output
    assert chaos.row(cancelled)["state"] == CANCELLED, chaos.row(cancelled)
    chaos.open_gate("g")
    assert fleet.stop() == 0, fleet.output
    chaos.check(hung=[*ids.values(), cancelled])


def test_13_a_process_in_which_too_many_hang_is_replaced(chaos: Chaos) -> None:
    fleet = chaos.worker("--concurrency", "4", GOQUEUE_WORKER_HUNG_MAX="2")
    ids = [chaos.enqueue_one("stubborn_in_thread", options=LIMITS, name="never") for _ in range(2)]
    chaos.settle()
    fleet.wait_for(r"worker +stop ")  # another one works, and this one claims no more
    after = chaos.enqueue("work", 5)
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    hanging, replaced = (
        {entry.pid for id in some for entry in chaos.ledger.find("start", id=id)} for some in (ids, after)
    )
    assert len(hanging) == 1
    assert not hanging & replaced, "the process in which they hang goes on"
    chaos.check(hung=ids)
