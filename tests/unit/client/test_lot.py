"""The pace at which many jobs come back."""

from __future__ import annotations

from goqueue.client.many import SELECTION_MAX, Lot, Pacer
from goqueue.model import limits
from goqueue.model.query import Changed, ChangeStatus, Query, RetryJobs
from goqueue.tasks.prepare import new_id


def test_without_a_rate_all_are_due_at_once() -> None:
    pacer = Pacer(None)
    pacer.planned(0.0, 500, 10.0)
    assert (pacer.every_s, pacer.delay_s(10.0), pacer.room(10.0)) == (0.0, 0.0, SELECTION_MAX)


def test_a_selection_follows_the_one_before_however_long_the_reading_took() -> None:
    pacer = Pacer(50)
    assert pacer.delay_s(0.0) == 0.0
    pacer.planned(0.0, 500, 0.2)  # due from 0.2 at the latest, one each 20 ms: the last at 10.18
    assert pacer.delay_s(1.2) == 9.0
    pacer.planned(9.0, 500, 1.3)
    assert round(pacer.delay_s(1.3), 6) == 19.0
    assert pacer.delay_s(60.0) == 0.0, "slower than the rate: at once"


def test_nothing_is_planned_beyond_what_a_store_takes() -> None:
    pacer = Pacer(1 / 3600)
    most = int(limits.DELAY_S_MAX / 3600)
    assert pacer.room(0.0) == most
    pacer.planned(0.0, most - 10, 0.0)
    assert pacer.room(0.0) == 10
    pacer.planned(pacer.delay_s(0.0), 10, 0.0)
    assert pacer.room(0.0) == 0


def test_locked_rows_get_later_turns() -> None:
    lot = Lot(Query(), lambda delay_s, every_s: RetryJobs(None, delay_s, every_s), rate=10)
    change = lot.change(0.0)
    ids = [new_id() for _ in range(3)]
    statuses = (ChangeStatus.CHANGED, ChangeStatus.BUSY, ChangeStatus.CHANGED)
    busy = lot.answered(change, [Changed(*pair) for pair in zip(ids, statuses, strict=True)], 0.0)
    assert busy == (ids[1],)
    again = lot.change(0.0)
    assert isinstance(again, RetryJobs)
    assert round(again.delay_s, 6) == 0.3
    lot.give_up(busy)
    assert lot.retried(0.0).skipped == {ChangeStatus.BUSY: 1}
