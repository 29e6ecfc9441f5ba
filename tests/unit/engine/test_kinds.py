"""Arguments and results of every type, from the enqueue to the result, and what becomes of those that do not fit."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

from goqueue.client import results
from goqueue.engine.worker import Worker
from goqueue.model import limits
from goqueue.model.errors import InvalidArguments
from goqueue.model.job import VERSION_KEY, JobRecord, NewJob
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.task import Task
from tests.unit.engine import process_app
from tests.unit.engine.faults import FaultyStore, quick


class Colour(enum.Enum):
    """Texts."""

    RED = "red"


class Level(enum.IntEnum):
    """Numbers."""

    HIGH = 3


@dataclass(frozen=True)
class Point:
    """A dataclass with another in it."""

    x: int
    to: Point | None = None


class Cat(msgspec.Struct, tag=True):
    """One of a tagged union."""

    lives: int


class Dog(msgspec.Struct, tag=True):
    """The other."""

    name: str


class Person(pydantic.BaseModel):
    """A model with a nested one."""

    name: str
    born: date
    friends: list[Person] = []


class Typed(TypedDict, total=False):
    """A typed dict."""

    a: int
    b: list[Point]


class Pair(NamedTuple):
    """A named tuple."""

    a: int
    b: str


VALUES: list[tuple[Any, Any]] = [
    (dict[str, Any], {"a": [1, 2.5, None, True, "é", {}]}),
    (bool, True),
    (int, -(2**53)),
    (float, 0.1),
    (str, "a\n\U0001f600"),
    (Point, Point(1, Point(2))),
    (list[Cat | Dog], [Cat(9), Dog("Rex")]),
    (Person, Person(name="Ada", born=date(1815, 12, 10), friends=[Person(name="Mary", born=date(1780, 12, 26))])),
    (dict[str, Person], {"a": Person(name="Ada", born=date(1815, 12, 10))}),
    (Typed, {"a": 1, "b": [Point(1)]}),
    (Pair, Pair(1, "b")),
    (datetime, datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)),
    (date, date(2026, 2, 3)),
    (time, time(4, 5, 6)),
    (timedelta, timedelta(days=1, seconds=1.5)),
    (UUID, UUID(int=7)),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Decimal, Decimal("12.300")),
    (bytes, b"\x00\xff"),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (Literal["a", 1], 1),
    (int | str | None, None),
    (dict[UUID, list[tuple[date, Decimal]]], {UUID(int=1): [(date(2026, 1, 1), Decimal("1.0"))]}),
]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def run(app: GoQueue, store: FaultyStore, *jobs: NewJob[Any]) -> list[JobRecord]:
    ids = await store.enqueue(*jobs)
    async with asyncio.timeout(60):
        await Worker(app, store, quick()).run_until_idle()
    return await store.jobs(ids)


def echo(app: GoQueue, wanted: Any, seen: list[object], kind: str = "echo") -> Task[..., object]:
    async def function(value: Any) -> Any:
        seen.append(value)
        return value

    function.__annotations__ = {"value": wanted, "return": wanted}
    return app.task(kind=kind)(function)


@pytest.mark.parametrize("case", VALUES, ids=lambda case: str(case[0]))
async def test_a_value_is_the_same_in_the_handler_and_as_the_result(store: FaultyStore, case: tuple[Any, Any]) -> None:
    wanted, value = case
    app, seen = GoQueue(), list[object]()
    task = echo(app, wanted, seen)
    (record,) = await run(app, store, task.job(value))
    assert record.errors == ()
    result = results.result_from(record, task.returns)
    assert (seen, result) == ([value], value)
    assert type(seen[0]) is type(result) is type(value)


WRONG: list[tuple[Any, Any, str]] = [
    (int, "1", "/args/value"),
    (Point, {"x": "1"}, "/args/value/x"),
    (list[Point], [Point(1), {"x": 1, "to": {"x": None}}], "/args/value/1/to/x"),
    (Literal["a"], "b", "/args/value"),
    (Colour, "green", "/args/value"),
    (UUID, "no", "/args/value"),
    (Typed, {"a": "1"}, "/args/value/a"),
    (float, float("nan"), "/args/value"),
    (list[float], [1.0, float("inf")], "/args/value"),
    (Any, object(), "/args/value"),
    (Any, {1, object()}, "/args/value"),
    (Any, "\ud800", "/args/value"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]} {type(case[1]).__name__}")
def test_what_does_not_fit_fails_at_the_caller_and_names_the_field(case: tuple[Any, Any, str]) -> None:
    wanted, value, pointer = case
    task = echo(GoQueue(), wanted, [])
    with pytest.raises(InvalidArguments) as refused:
        task.job(value)
    assert refused.value.pointer == pointer


async def test_arguments_that_were_retyped_fail_their_attempts_and_the_worker_lives(store: FaultyStore) -> None:
    app, seen = GoQueue(retry=RetryPolicy.fixed(3600)), list[object]()
    task = echo(app, Point, seen)
    bad, good = await run(app, store, NewJob(kind="echo", args=b'{"value":{"x":"one"}}'), task.job(Point(1)))
    assert (bad.state, bad.attempt, good.state) == (JobState.RETRYING, 1, JobState.COMPLETED)
    assert bad.errors[0].type.endswith("InvalidArguments")
    assert "/args/value/x" in bad.errors[0].message


async def test_results_and_errors_are_bounded(store: FaultyStore) -> None:
    app = GoQueue(retry=RetryPolicy.fixed(0))

    @app.task(max_attempts=1)
    async def large(size: int) -> str:
        return "x" * size

    @app.task(max_attempts=limits.ERRORS_KEPT_MAX + 5)
    async def fail() -> None:
        raise ValueError("x" * 1_000_000)

    fits, too_large, failed = await run(
        app, store, large.job(limits.RESULT_BYTES_MAX - 2), large.job(limits.RESULT_BYTES_MAX), fail.job()
    )
    assert (fits.state, too_large.state, failed.state) == (JobState.COMPLETED, JobState.DEAD, JobState.DEAD)
    assert "keep large results elsewhere" in too_large.errors[0].message or "at most" in too_large.errors[0].message
    assert len(failed.errors) == limits.ERRORS_KEPT_MAX
    assert failed.errors[-1].attempt == limits.ERRORS_KEPT_MAX + 5
    error = failed.errors[0]
    assert len(error.message) <= limits.ERROR_MESSAGE_CHARS_MAX
    assert len(error.traceback) <= limits.ERROR_TRACEBACK_CHARS_MAX


# -- versions, and kinds of before ----------------------------------------------------------------


def shop(seen: list[object]) -> GoQueue:
    app = GoQueue(retry=RetryPolicy.fixed(3600))

    @app.task(kind="mail.send", version=2, aliases=["send_email"])
    async def send(to: list[str]) -> int:
        seen.append(to)
        return len(to)

    @send.upcast(from_version=1)
    def to_list(args: dict[str, Any]) -> dict[str, Any]:
        return {"to": [args["to"]]}

    @app.task(version=2)
    def in_thread(to: Sequence[str]) -> None:
        seen.append(list(to))

    in_thread.upcast(from_version=1)(to_list)
    return app


async def test_jobs_of_old_versions_and_old_kinds_run(store: FaultyStore) -> None:
    seen: list[object] = []
    app = shop(seen)
    records = await run(
        app,
        store,
        NewJob(kind="send_email", args=b'{"to":"old kind"}'),
        NewJob(kind="mail.send", args=b'{"to":"old version"}', meta={"a": "b"}),
        NewJob(kind="in_thread", args=b'{"to":"old version"}'),
        app.tasks["mail.send"].job(["new"]),
        NewJob(kind="mail.send", args=b'{"too":"bad"}'),
    )
    states = [record.state for record in records]
    assert states == [JobState.COMPLETED] * 4 + [JobState.RETRYING]
    assert sorted(map(str, seen)) == ["['new']", "['old kind']", "['old version']", "['old version']"]
    assert "upcaster of task 'mail.send' from version 1 failed: KeyError: 'to'" in records[-1].errors[0].message


async def test_a_job_of_a_newer_version_waits_and_says_why(store: FaultyStore) -> None:
    seen: list[object] = []
    jobs = [
        NewJob[object](kind=kind, args=b'{"to":[]}', meta={VERSION_KEY: version})
        for kind, version in (("mail.send", "3"), ("send_email", "3"))
    ]
    plain = GoQueue()
    echo(plain, Any, seen)
    records = await run(shop(seen), store, *jobs)
    records += await run(plain, FaultyStore(), NewJob(kind="echo", args=b'{"value":1}', meta={VERSION_KEY: "2"}))
    assert [(record.attempt, record.state) for record in records] == [(0, JobState.SCHEDULED)] * 3
    assert "version 3" in (records[0].reason or "")
    assert "knows up to 1: update it" in (records[-1].reason or "")
    assert seen == []


async def test_old_versions_and_kinds_run_in_processes(store: FaultyStore) -> None:
    app = process_app.app
    ids = await store.enqueue(NewJob(kind="versioned_before", args=b'{"n":1}'))
    async with asyncio.timeout(60):
        ref = "tests.unit.engine.process_app:app"
        await Worker(app, store, quick(), app_ref=ref).run_until_idle()
    (record,) = await store.jobs(ids)
    assert record.result == msgspec.Raw(b"[1]")


def test_a_worker_names_all_its_kinds() -> None:
    from goqueue.engine.worker import worker_info

    app = shop([])
    assert worker_info(app, quick(), ()).kinds == ("in_thread", "mail.send", "send_email")
