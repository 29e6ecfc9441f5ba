"""The checker finds what it is there for: each law is broken once, in forged logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import ledger
from tests.chaos.checker import Allowed, Law
from tests.chaos.forge import KEY_FLAG, Forge
from tests.chaos.replay import DEAD, RUNNING


def lawful(forge: Forge) -> None:
    """A job that meets everything that can lawfully happen, and its children."""
    forge.enqueue()
    forge.claim()
    forge.release()
    forge.claim()
    forge.start(2)
    forge.enqueue("child", args={"by": "a", "fence": 2})
    forge.change(progress={"fence": 2})
    forge.sweep()
    forge.claim()
    forge.start(4, attempt=2)  # the first handler is a zombie: its lease was swept
    forge.end(2)
    forge.end(4, "raised")
    forge.again(errors=[{"attempt": 2, "message": '{"fence": 4}'}])
    forge.claim()
    forge.start(5, attempt=3)
    forge.end(5)
    forge.complete()
    forge.retry_by_hand()
    forge.claim()
    forge.start(6, attempt=4)
    forge.end(6)
    forge.complete()
    forge.claim("child")
    forge.start(1, id="child")
    forge.change("child", crashes=1, state=0, worker_id=None)  # its process died, and its supervisor said so
    forge.claim("child")
    forge.dead("child")
    forge.enqueue("unlucky")
    forge.dead("unlucky", fence=1)  # not started in time
    forge.enqueue("unwanted")
    forge.cancel("unwanted")


def test_a_lawful_story_breaks_nothing() -> None:
    forge = Forge()
    lawful(forge)
    assert forge.violations() == []


def lost(forge: Forge) -> None:
    forge.enqueue()
    forge.live.clear()


def left_over(forge: Forge) -> None:
    forge.enqueue()


def final_twice(forge: Forge) -> None:
    forge.enqueue()
    forge.cancel()
    forge.final.append(forge.final[0])


def live_and_final(forge: Forge) -> None:
    forge.enqueue()
    row = forge.live["a"]
    forge.cancel()
    forge.live["a"] = row


def refused_and_there(forge: Forge) -> None:
    forge.enqueue()
    forge.cancel()
    forge.entries = [entry for entry in forge.entries if entry.event != "acknowledged"]
    forge.log("refused")


def claimed_while_it_ran(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.claim(worker="other")
    forge.complete()


def changed_hands_without_a_claim(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.change(worker_id="other")
    forge.complete()


def claimed_by_nobody(forge: Forge) -> None:
    forge.enqueue()
    forge.claim(worker=None)
    forge.complete()


def fence_fell(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.sweep()
    forge.change(fence=0)
    forge.cancel()


def claimed_without_a_fence(forge: Forge) -> None:
    forge.enqueue()
    forge.claim(fence=0)
    forge.complete(result_fence=0)


def swept_without_a_fence_and_crash(forge: Forge) -> None:
    forge.enqueue()
    forge.claim(crashes=1)
    forge.complete()


def made_again(forge: Forge) -> None:
    forge.enqueue()
    forge.cancel()
    forge.final.clear()
    forge.enqueue()
    forge.cancel()


def retried_by_hand_with_a_new_fence(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.dead()
    forge.retry_by_hand(fence=0)
    forge.claim()
    forge.dead()


def changed_behind_the_trail(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.live["a"] = {**forge.live["a"], "attempt": 0}
    forge.complete()


def a_fence_too_many(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.complete()
    forge.final[0]["fence"] = 2


def an_attempt_too_few(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.complete()
    forge.final[0]["attempt"] = 0


def a_crash_too_many(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.complete()
    forge.final[0]["crashes"] = 1


def started_without_a_lease(forge: Forge) -> None:
    forge.enqueue()
    forge.start(1)
    forge.cancel()


def started_twice_under_one_lease(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.start(1)
    forge.end(1)
    forge.start(1)
    forge.end(1)
    forge.complete()


def told_another_attempt(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.start(1, attempt=7)
    forge.end(1)
    forge.complete()


def two_at_a_time(forge: Forge) -> None:
    """The outcome of the first was written while it still ran, and it had not lost its lease."""
    forge.enqueue()
    forge.claim()
    forge.start(1)
    forge.again()
    forge.claim()
    forge.start(2, attempt=2)
    forge.end(1)
    forge.end(2)
    forge.complete()


def result_of_a_zombie(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.start(1)
    forge.sweep()
    forge.claim()
    forge.start(3, attempt=2)
    forge.end(1)
    forge.end(3)
    forge.complete(result_fence=1)


def progress_of_a_zombie(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.sweep()
    forge.claim()
    forge.change(progress={"fence": 1})
    forge.complete()


def error_of_a_zombie(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.sweep()
    forge.claim()
    forge.dead(errors=[{"attempt": 2, "message": '{"fence": 1}'}])


def child_of_a_zombie(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.sweep()
    forge.enqueue("child", args={"by": "a", "fence": 1})
    forge.claim()
    forge.complete()
    forge.cancel("child")


def completed_by_nobody(forge: Forge) -> None:
    forge.enqueue()
    forge.claim()
    forge.start(1)
    forge.end(1, "raised")
    forge.complete()


def swept_from_the_living(forge: Forge) -> None:
    forge.enqueue()
    forge.beat()
    forge.claim()
    forge.sweep()
    forge.cancel()


def key_of_a_final_job(forge: Forge) -> None:
    forge.enqueue(flags=KEY_FLAG)
    forge.keys.append({"key": "k", "job_id": "a", "until": None})
    forge.cancel()


def key_of_a_job_that_is_gone(forge: Forge) -> None:
    forge.keys.append({"key": "k", "job_id": "a", "until": None})


def another_token(forge: Forge) -> None:
    forge.enqueue()
    for fence, token in ((1, "one"), (2, "two")):
        forge.claim()
        forge.start(fence, attempt=fence, token=token)
        forge.end(fence, "raised")
        forge.again()
    forge.cancel()


BROKEN: list[tuple[Law, Callable[[Forge], None]]] = [
    (Law.DURABLE, lost),
    (Law.DURABLE, left_over),
    (Law.ONE_STATE, final_twice),
    (Law.ONE_STATE, live_and_final),
    (Law.REFUSED, refused_and_there),
    (Law.STEPS, claimed_while_it_ran),
    (Law.STEPS, changed_hands_without_a_claim),
    (Law.STEPS, claimed_by_nobody),
    (Law.STEPS, fence_fell),
    (Law.STEPS, claimed_without_a_fence),
    (Law.STEPS, swept_without_a_fence_and_crash),
    (Law.STEPS, made_again),
    (Law.STEPS, retried_by_hand_with_a_new_fence),
    (Law.STEPS, changed_behind_the_trail),
    (Law.FENCE, a_fence_too_many),
    (Law.ATTEMPT, an_attempt_too_few),
    (Law.CRASHES, a_crash_too_many),
    (Law.LEASED, started_without_a_lease),
    (Law.LEASED, started_twice_under_one_lease),
    (Law.LEASED, told_another_attempt),
    (Law.ONE_LEASE, two_at_a_time),
    (Law.OLD_FENCE, result_of_a_zombie),
    (Law.OLD_FENCE, progress_of_a_zombie),
    (Law.OLD_FENCE, error_of_a_zombie),
    (Law.OLD_FENCE, child_of_a_zombie),
    (Law.RETURNED, completed_by_nobody),
    (Law.ALIVE, swept_from_the_living),
    (Law.KEY, key_of_a_final_job),
    (Law.KEY, key_of_a_job_that_is_gone),
    (Law.TOKEN, another_token),
]


@pytest.mark.parametrize("law, story", BROKEN, ids=[story.__name__ for _, story in BROKEN])
def test_a_broken_law_is_found(law: Law, story: Callable[[Forge], None]) -> None:
    forge = Forge()
    story(forge)
    assert law.name in forge.laws()


def test_every_law_is_broken_by_some_story() -> None:
    assert {law for law, _ in BROKEN} == set(Law)


def test_what_a_test_knows_better_is_allowed() -> None:
    forge = Forge()
    forge.enqueue("open")
    forge.enqueue("vanished")
    forge.live.pop("vanished")
    assert forge.laws() == {"DURABLE"}
    assert forge.laws(Allowed(open={"open"}, vanished={"vanished"})) == set()
    hung = Forge()
    two_at_a_time(hung)
    assert hung.laws(Allowed(hung={"a"})) == set()


def test_an_ambiguous_enqueue_may_have_happened_or_not() -> None:
    forge = Forge()
    forge.log("sent", "never")
    forge.log("failed", "never")
    forge.enqueue("once")
    forge.cancel("once")
    forge.entries = [entry for entry in forge.entries if entry.event != "acknowledged"]
    forge.log("failed", "once")
    assert forge.violations() == []


def test_a_job_that_is_still_running_when_all_is_quiet_is_not_accounted_for() -> None:
    forge = Forge()
    forge.enqueue()
    forge.claim()
    assert [violation.what for violation in forge.violations()] == [f"all is quiet, and it is in state {RUNNING}"]


def test_a_job_that_is_dead_by_its_last_crash_is_lawful() -> None:
    forge = Forge()
    forge.enqueue()
    forge.claim()
    forge.dead(state=DEAD, fence=2, crashes=1)
    assert forge.violations() == []


def test_the_ledger_has_whole_lines_of_many_writers(tmp_path: Path) -> None:
    one = ledger.Ledger(tmp_path / "ledger")
    one.write("sent", id="a")
    with one.path.open("ab") as file:
        file.write(b'{"at_s": 1.0, "pid": 2, "event": "start", "id": "a"')  # half of a line
        file.flush()
        assert [entry.event for entry in one.entries()] == ["sent"]
        file.write(b', "fence": 3}\n')
    assert [entry.fence for entry in one.find("start", id="a")] == [3]
