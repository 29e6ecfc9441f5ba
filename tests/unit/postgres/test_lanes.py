"""The lane book: which lanes a claim asks for, and from where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from goqueue.store.postgres.lanes import NIL, START, TRAIL, WARM_MAX, WARM_S, Lane, LaneBook, Mark

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
A5, A1, B5 = Lane("a", 5, ""), Lane("a", 1, ""), Lane("b", 5, "")


def mark(seconds: float) -> Mark:
    return Mark(NOON + timedelta(seconds=seconds), "01a20bc2-9e29-7753-9fde-f68a8fef2723")


def lanes(book: LaneBook, *queues: str, now_s: float = 0.0) -> list[Lane]:
    return [lane for lane, _ in book.wanted(queues, now_s)]


def give(book: LaneBook, last: dict[Lane, Mark], *, full: bool = True, jobs: int = 100, took_s: float = 0.001) -> None:
    asked = lanes(book, "a", "b")
    book.claimed(asked, last, full=full, took_s=took_s, jobs=jobs, now_s=0.0)


def test_lanes_come_by_queue_then_priority() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A5: mark(0), B5: mark(0), A1: mark(0)})
    assert lanes(book, "b", "a") == [B5, A1, A5]
    assert lanes(book, "a") == [A1, A5]
    assert lanes(book, "c") == []


def test_no_more_lanes_than_the_bound() -> None:
    book = LaneBook(lanes_max=3)
    book.scanned({Lane("a", n, ""): mark(0) for n in range(10)})
    assert lanes(book, "a") == [Lane("a", n, "") for n in range(3)]


def test_an_empty_lane_stays_warm_for_a_while() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A5: mark(0)})
    give(book, {}, full=False, jobs=0)
    assert lanes(book, "a", now_s=WARM_S - 1) == [A5]
    assert lanes(book, "a", now_s=WARM_S + 1) == []


def test_warm_lanes_are_bounded() -> None:
    book = LaneBook(lanes_max=1_000)
    book.scanned({Lane("a", 5, str(n)): mark(0) for n in range(5 * WARM_MAX)})
    give(book, {}, full=False, jobs=0)
    assert len(lanes(book, "a")) == WARM_MAX


def test_lanes_behind_the_last_that_gave_are_not_thought_empty() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A1: mark(0), A5: mark(0), B5: mark(0)})
    give(book, {A5: mark(1)}, full=True)
    # a1 was before the lane that filled the claim and gave nothing: empty. b5 was never reached.
    assert lanes(book, "a", "b", now_s=WARM_S + 1) == [A5, B5]


def test_marks_are_only_used_while_claims_cost_several_times_their_best() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A5: mark(0)})
    give(book, {A5: mark(10)}, took_s=0.001)
    assert book.wanted(["a"], 0.0) == [(A5, START)]
    give(book, {A5: mark(20)}, took_s=0.010)
    assert book.engaged
    assert book.wanted(["a"], 0.0) == [(A5, Mark(NOON + timedelta(seconds=20) - TRAIL, NIL))]
    for _ in range(300):
        give(book, {A5: mark(20)}, took_s=0.001)
    assert not book.engaged


def test_a_scan_lowers_a_mark_and_never_raises_it() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A5: mark(0)})
    give(book, {A5: mark(20)}, took_s=0.001)
    give(book, {A5: mark(20)}, took_s=0.010)
    book.scanned({A5: mark(30)})
    assert book.wanted(["a"], 0.0)[0][1].run_at == NOON + timedelta(seconds=20) - TRAIL
    book.scanned({A5: mark(5)})
    assert book.wanted(["a"], 0.0)[0][1].run_at == NOON + timedelta(seconds=5) - TRAIL


def test_a_lane_that_was_warm_keeps_its_mark() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A5: mark(0)})
    give(book, {A5: mark(20)}, took_s=0.001)
    give(book, {A5: mark(20)}, took_s=0.010)
    give(book, {}, full=False, jobs=0)
    assert book.wanted(["a"], 0.0) == [(A5, Mark(NOON + timedelta(seconds=20) - TRAIL, NIL))]


def test_a_reset_forgets_marks_and_keeps_lanes() -> None:
    book = LaneBook(lanes_max=10)
    book.scanned({A5: mark(0)})
    give(book, {A5: mark(20)}, took_s=0.001)
    give(book, {A5: mark(20)}, took_s=0.010)
    book.reset()
    assert book.wanted(["a"], 0.0) == [(A5, START)]
