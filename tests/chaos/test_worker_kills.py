"""Faults 1 and 2: processes that are killed."""

from __future__ import annotations

from tests.chaos.harness import Chaos


def test_01_kill_9_of_a_worker_process(chaos: Chaos) -> None:
    fleet = chaos.worker("--concurrency", "4")
    (id,) = chaos.enqueue("gated", name="g")
    others = chaos.enqueue("work", chaos.pick(30, 500), ms=20)
    chaos.wait_started(id)
    chaos.kill(chaos.runner_of(id))
    chaos.open_gate("g")
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    row = chaos.row(id)
    assert (row["attempt"], row["crashes"]) == (2, 1), row
    assert all(chaos.row(other)["state"] == 3 for other in others)
    chaos.check()
