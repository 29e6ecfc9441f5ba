# Generated from tests/unit/client/_async/test_many.py by scripts/unasync.py: change that and run `make generate`.
"""Cancelling, retrying and deleting by filter, and retrying with other arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from goqueue.client.many import ChangedMany, RetriedMany
from goqueue.model.errors import InvalidArguments, InvalidQuery, JobNotFound, StoreUnavailable, WrongState
from goqueue.model.job import ErrorInfo, NewJob
from goqueue.model.outcome import Complete, Dead
from goqueue.model.query import CancelJobs, ChangeStatus, RetryJobs
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.prepare import new_id
from tests.unit.client._sync.faulty import World
from tests.unit.client.hand import FAST, Hand

JOB: NewJob[object] = NewJob(kind="mail")
app = GoQueue()


@app.task
def mail(to: str, copies: int = 1) -> None: ...


def with_dead(
    count: int,
    *,
    reason: str = "attempts",
    error: str = "ValueError",
    job: NewJob[Any] = JOB,
    world: World | None = None,
) -> World:
    """A store in which so many jobs are dead."""
    world = world or World()
    world.client.enqueue_many([job] * count)
    hand = Hand(world.memory)
    for _ in range(count):
        hand.do(Dead(ErrorInfo(error, "on purpose"), reason))
    return world


def states(world: World) -> list[str]:
    return [str(job.known.state) for job in world.client.iterate() if job.known is not None]


# -- by filter ------------------------------------------------------------------------------------


def test_all_dead_jobs_come_back_in_selections_of_500() -> None:
    world = with_dead(1_130)
    heard: list[RetriedMany] = []
    done = world.client.retry_many(progress=heard.append)
    assert done == RetriedMany(found=1_130, retried=1_130)
    assert [len(selection.ids) for selection, _ in world.store.changes] == [500, 500, 130]
    assert [so_far.retried for so_far in heard] == [500, 1_000, 1_130]
    assert set(states(world)) == {"ready"}
    assert world.client.retry_many() == RetriedMany(), "there is nothing left"


def test_conditions_choose() -> None:
    world = with_dead(3)
    with_dead(2, reason="crashed", error="goqueue.WorkerCrashed", world=world)
    with_dead(1, job=JOB.options(tags=["x"]), error="httpx.ConnectTimeout", world=world)
    client = world.client
    assert (client.retry_many(dry_run=True)).found == 6
    assert (client.retry_many(reasons=["crashed"], dry_run=True)).found == 2
    assert (client.retry_many(errors=["WorkerCrashed", "ConnectTimeout"], dry_run=True)).found == 3
    assert (client.retry_many(errors=["Timeout"], dry_run=True)).found == 0
    assert (client.retry_many(kinds=["other"], dry_run=True)).found == 0
    assert (client.retry_many(queues=["other"], dry_run=True)).found == 0
    ids = [job.id for job in client.iterate(states=["dead"], reasons=["crashed"])]
    assert len(ids) == 2
    assert (client.retry_many(ids=ids, dry_run=True)).found == 2
    assert world.store.changes == [], "a dry run changes nothing"
    assert (client.retry_many(tags=["x"])).retried == 1
    assert (states(world)).count("dead") == 5


def test_dead_letters_are_chosen_by_when_they_died() -> None:
    world = with_dead(2)
    world.memory.time_travel(600)
    with_dead(3, world=world)
    ends = sorted([job.known.finished_at for job in world.client.iterate() if job.known and job.known.finished_at])
    assert (world.client.retry_many(finished_before=ends[2], dry_run=True)).found == 2
    assert (world.client.retry_many(finished_after=ends[2], dry_run=True)).found == 3
    assert (world.client.delete_many(states=["dead"], finished_after=ends[1], finished_before=ends[2])).changed == 1
    page = world.client.find(finished_after=ends[3], page_size=1)
    rest = [job.id for job in world.client.iterate(finished_after=ends[3], page_token=page.next_page_token)]
    assert len(page.jobs) + len(rest) == 2


def test_a_limit_is_kept_and_said() -> None:
    world = with_dead(7)
    assert world.client.retry_many(limit=3) == RetriedMany(found=3, retried=3, more=True)
    assert world.client.retry_many(limit=4) == RetriedMany(found=4, retried=4)
    assert world.client.retry_many(limit=0) == RetriedMany()


def test_with_a_rate_each_job_has_its_turn() -> None:
    world = with_dead(1_200)
    done = world.client.retry_many(rate=100)
    assert (done.retried, done.more) == (1_200, False)
    assert 11 <= done.spread_s <= 12
    due = sorted([job.known.run_at for job in world.client.iterate() if job.known is not None])
    # Whichever window one looks at: never more than the rate. The store's clock runs on between two selections.
    assert all((b - a).total_seconds() >= 0.9 for a, b in zip(due, due[100:], strict=False))
    assert 11.8 <= (due[-1] - due[0]).total_seconds() <= 25
    changes = [change for _, change in world.store.changes]
    assert all(isinstance(change, RetryJobs) and change.every_s == 0.01 for change in changes)


def test_what_cannot_be_retried_is_counted_by_why() -> None:
    world = with_dead(1, job=JOB.options(unique="k"))
    with_dead(2, world=world)
    world.client.enqueue(JOB.options(unique="k"))
    assert world.client.retry_many() == RetriedMany(found=3, retried=2, skipped={ChangeStatus.KEY_HELD: 1})


def test_locked_rows_are_tried_again_alone_and_then_left() -> None:
    world = with_dead(3)
    world.store.changes_busy = 1
    assert (world.client.retry_many()).retried == 3
    world = with_dead(3)
    world.store.changes_busy = 100
    assert world.client.retry_many() == RetriedMany(found=3, skipped={ChangeStatus.BUSY: 3})
    assert world.store.changes_busy == 100 - FAST.change_tries


def test_an_outage_half_way_says_how_far_it_came_and_can_be_gone_on_from() -> None:
    world = with_dead(700)
    world.store.changes_to_allow = 1
    with pytest.raises(StoreUnavailable) as failed:
        world.client.retry_many()
    assert "At least 500 jobs were changed before that" in failed.value.__notes__[0]
    world.store.changes_to_allow = None
    assert world.client.retry_many() == RetriedMany(found=200, retried=200)


def test_a_job_that_is_dead_again_at_once_is_not_taken_twice() -> None:
    world = with_dead(600)
    hand = Hand(world.memory)
    done = world.client.retry_many(progress=lambda _: hand.do(Dead(ErrorInfo("E", "again"))))
    assert (done.found, done.retried) == (600, 600)
    assert (states(world)).count("dead") == 2


def test_many_are_cancelled() -> None:
    world = World()
    world.client.enqueue_many([JOB, JOB.options(delay_s=60), NewJob(kind="other")])
    Hand(world.memory).take()
    assert world.client.cancel_many(kinds=["mail"], reason="not now") == ChangedMany(found=2, changed=1, requested=1)
    assert world.store.changes[-1][1] == CancelJobs("not now")
    assert sorted(states(world)) == ["cancelled", "ready", "running"]


def test_many_are_deleted() -> None:
    world = with_dead(3)
    with_dead(1, reason="crashed", world=world)
    world.client.enqueue(JOB)
    assert (world.client.delete_many(states=["dead"], reasons=["crashed"])).changed == 1
    assert world.client.delete_many(states=["dead"]) == ChangedMany(found=3, changed=3)
    assert states(world) == ["ready"]


@pytest.mark.parametrize(
    "asked, pointer",
    [
        ({"states": ["done"]}, "/states"),
        ({"kinds": "mail"}, "/kinds"),
        ({"reasons": "crashed"}, "/reasons"),
        ({"errors": ["E"] * 1_001}, "/errors"),
        ({"limit": -1}, "/limit"),
        ({"limit": True}, "/limit"),
        ({"rate": 0}, "/rate"),
        ({"rate": float("nan")}, "/rate"),
        ({"rate": float("inf")}, "/rate"),
        ({"rate": "50/s"}, "/rate"),
        ({"args": {}}, "/kinds"),
        ({"args": {}, "kinds": ["a", "b"]}, "/kinds"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(asked: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        World().client.retry_many(**asked)
    assert refused.value.pointer == pointer


# -- other arguments --------------------------------------------------------------------------------


def test_a_dead_job_runs_with_other_arguments() -> None:
    world = with_dead(1)
    (job,) = (world.client.find()).jobs
    assert job.retry({"to": "ada", "n": [1, None]}) is ChangeStatus.CHANGED
    assert json.loads(bytes((job.record()).args)) == {"to": "ada", "n": [1, None]}
    assert json.loads(Hand(world.memory).take().args) == {"to": "ada", "n": [1, None]}


def test_other_arguments_must_fit_the_task() -> None:
    world = with_dead(1, world=World(app), job=mail.job(to="ada"))
    (job,) = (world.client.find()).jobs
    for args, pointer in (({"to": 1}, "/args/to"), ({"too": "x"}, "/args/too"), ({}, "/args/to"), ([], "/args")):
        with pytest.raises(InvalidArguments) as refused:
            world.client.retry(job.id, args)  # type: ignore[arg-type]  # that is the point
        assert refused.value.pointer == pointer
        with pytest.raises(InvalidArguments):
            world.client.retry_many(kinds=["mail"], args=args)  # type: ignore[arg-type]  # that is the point
    assert job.state() is JobState.DEAD
    assert world.store.changes == []
    world.client.retry(job.id, {"to": "grace"})
    assert json.loads(bytes((job.record()).args)) == {"to": "grace", "copies": 1}


def test_other_arguments_for_all_of_a_kind() -> None:
    world = with_dead(2, world=World(app), job=mail.job(to="ada"))
    assert (world.client.retry_many(kinds=["mail"], args={"to": "grace"})).retried == 2
    found = [job.known for job in world.client.iterate()]
    assert {bytes(record.args) for record in found if record is not None} == {b'{"to":"grace","copies":1}'}


def test_only_final_jobs_take_other_arguments() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    with pytest.raises(WrongState, match="edit and retry"):
        job.retry({"a": 1})
    Hand(world.memory).do(Complete())
    with pytest.raises(InvalidArguments):
        job.retry({"a": float("nan")})
    with pytest.raises(InvalidArguments):
        job.retry({1: 2})  # type: ignore[dict-item]  # that is the point
    assert job.retry({"a": 1}) is ChangeStatus.CHANGED
    with pytest.raises(JobNotFound):
        world.client.retry(new_id(), {"a": 1})
