"""Faults 7 and 8: handlers that kill their process, and handlers that raise what nobody expects."""

from __future__ import annotations

import re

from tests.chaos.harness import Chaos

COMPLETED, DEAD = 3, 5
KINDS = ("poison", "poison_in_thread")
WAYS = ("exit", "segv", "memory", "kill")
FIVE = ("memory", "recursion", "exit", "interrupt", "cancelled")


def test_07_poison_among_many(chaos: Chaos) -> None:
    """One of them kills its process each time: it dies alone, after three crashes, and the fleet goes on."""
    many = chaos.pick(60, 500)
    cases = [(chaos.random.choice(KINDS), way) for way in (WAYS if chaos.full else chaos.random.sample(WAYS, 1))]
    fleet = chaos.worker("--processes", "2", "--concurrency", "50")
    for kind, way in cases:
        others = chaos.enqueue("work", many // 2, ms=20)
        poison = chaos.enqueue_one(kind, how=way)
        others += chaos.enqueue("work", many - many // 2, ms=20)
        chaos.settle()
        row = chaos.row(poison)
        assert (row["state"], row["crashes"], row["attempt"], row["reason"]) == (DEAD, 3, 3, "crashed"), row
        rows = [chaos.row(id) for id in others]
        assert {one["state"] for one in rows} == {COMPLETED}
        assert max(one["crashes"] for one in rows) <= 1
    assert fleet.stop() == 0, fleet.output
    # Only its first crash took a worker process: there is always another one.
    assert len(re.findall(r"worker +restart ", fleet.output)) <= len(cases)
    assert chaos.sql("SELECT count(*) FROM goqueue.job_history WHERE state = 5")[0][0] == len(cases)
    chaos.check()


def test_08_what_nobody_expects_to_be_raised(chaos: Chaos) -> None:
    """One failed attempt each, and the slot is free: there are only two."""
    fleet = chaos.worker("--concurrency", "2")
    ids = [
        chaos.enqueue_one(kind, what=what, times=1)
        for kind in ("raises", "raises_in_thread", "raises_in_process")
        for what in FIVE
    ]
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    for id in ids:
        row = chaos.row(id)
        assert (row["state"], row["attempt"], row["crashes"], len(row["errors"])) == (COMPLETED, 2, 0, 1), row
    assert len({entry.pid for entry in chaos.ledger.find("start", kind="raises")}) == 1, "the process lives"
    chaos.check()
