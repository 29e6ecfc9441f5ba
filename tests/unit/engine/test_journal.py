"""The journal page: what is left of a worker process when it has died."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine.journal import FD_VARIABLE, RAISE_S, Journal, NullJournal, Page, slots_for
from goqueue.model.lease import Lease
from goqueue.settings import WorkerSettings


def lease(id: str = "", *, fence: int = 1, timeout_s: float | None = None) -> Lease:
    now = datetime.now(UTC)
    return Lease(
        id=id or str(uuid4()),
        tenant="default",
        queue="default",
        kind="kind",
        args=b"{}",
        fence=fence,
        attempt=1,
        max_attempts=3,
        crashes=0,
        priority=5,
        timeout_s=timeout_s,
        created_at=now,
        run_at=now,
        meta=None,
    )


def test_what_has_started_is_read_from_the_memory_that_both_share() -> None:
    page = Page.create(4)
    journal = Journal(Page(os.dup(page.fd)))
    first, second = lease(fence=3), lease(fence=2**40)
    journal.start(first)
    journal.end(journal.start(second))
    assert set(page.started()) == {(first.id, 3), (second.id, 2**40)}
    page.close()
    page.close()


@given(
    concurrency=st.integers(1, 6),
    prefetch=st.integers(1, 6),
    outcomes=st.integers(1, 12),
    choices=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**6)), max_size=300),
)
def test_no_slot_is_used_again_before_its_outcome_is_settled(
    concurrency: int, prefetch: int, outcomes: int, choices: list[tuple[int, int]]
) -> None:
    """Jobs end in any order; outcomes are settled in the order of their ends, and at most so many wait as may."""
    settings = WorkerSettings(concurrency=concurrency, prefetch=prefetch, outcomes_waiting_max=outcomes)
    page = Page.create(slots_for(settings))
    journal = Journal(page)
    running: list[tuple[int, Lease]] = []
    unsettled: list[Lease] = []
    # The brake stops claims, not what has been claimed: that many outcomes may come on top.
    unsettled_max = outcomes + concurrency + prefetch
    for what, number in choices:
        if what == 0 and len(running) < concurrency and len(unsettled) < unsettled_max:
            one = lease(fence=number + 1)
            running.append((journal.start(one), one))
        elif what == 1 and running and len(unsettled) < unsettled_max:
            slot, one = running.pop(number % len(running))
            journal.end(slot)
            unsettled.append(one)
        elif what == 2 and unsettled:
            unsettled.pop(0)
        started = set(page.started())
        assert {(one.id, one.fence) for one in unsettled} <= started
        assert {(one.id, one.fence) for _, one in running} <= started
    page.close()


def test_more_starts_than_slots_lose_a_note_and_nothing_else() -> None:
    page = Page.create(2)
    journal = Journal(page)
    leases = [lease() for _ in range(4)]
    slots = [journal.start(one) for one in leases]
    assert set(page.started()) == {(leases[0].id, 1), (leases[3].id, 1)}
    for slot in slots:
        journal.end(slot)
    page.close()


def test_a_start_raises_how_long_the_loop_may_be_busy_and_a_bump_says_it_exactly() -> None:
    now_s = 100.0
    page = Page.create(10)
    journal = Journal(page, now_s=lambda: now_s)
    assert (page.alive_at, page.busy_until) == (0.0, 0.0)
    journal.start(lease(timeout_s=5.0))
    assert page.busy_until == 105.0 + RAISE_S
    now_s = 100.2
    journal.start(lease(timeout_s=5.0))  # still ahead: not written again
    assert page.busy_until == 105.0 + RAISE_S
    journal.alive(103.0)
    assert (page.alive_at, page.busy_until) == (100.2, 103.0)
    journal.start(lease(timeout_s=1.0))
    assert page.busy_until == 103.0
    journal.start(lease())
    assert page.busy_until == math.inf
    journal.start(lease(timeout_s=1.0))
    assert page.busy_until == math.inf
    journal.alive(0.0)
    assert page.busy_until == 0.0
    journal.close()
    assert page.alive_at == math.inf
    page.close()


def test_it_is_inherited_by_a_child_and_outlives_it() -> None:
    page = Page.create(3)
    code = (
        "import os, signal\n"
        "from goqueue.engine.journal import Journal\n"
        "from tests.unit.engine.test_journal import lease\n"
        "journal = Journal.inherited()\n"
        "journal.start(lease('0' * 36, fence=7))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, FD_VARIABLE: str(page.fd), "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([sys.executable, "-c", code], env=env, pass_fds=(page.fd,), check=False)
    assert child.returncode == -9
    assert set(page.started()) == {("0" * 36, 7)}
    page.close()


def test_without_a_supervisor_there_is_none() -> None:
    journal = Journal.inherited()
    assert isinstance(journal, NullJournal)
    journal.end(journal.start(lease()))
    journal.alive(0.0)
    journal.close()
