"""Definitions: what can be a task, and what is remembered of it."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from goqueue.model.errors import DefinitionError, DuplicateTask, UnknownTask
from goqueue.model.job import OnConflict, Unique
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy

if TYPE_CHECKING:
    from fractions import Fraction


async def send(to: str) -> str:
    """Send it."""
    return f"sent to {to}"


def test_a_task_is_named_for_its_function_and_can_still_be_called() -> None:
    task = GoQueue().task(send)
    assert (task.kind, task.queue, task.is_async, task.run_in) == ("send", "default", True, "auto")
    assert task.__doc__ == "Send it."
    assert inspect.signature(task) == inspect.signature(send)


async def test_calling_a_task_runs_the_function() -> None:
    assert await GoQueue().task(send)("ada") == "sent to ada"


def test_options_of_the_definition_are_those_of_its_jobs() -> None:
    app = GoQueue()
    task = app.task(
        kind="mail.send",
        queue="mail",
        priority=1,
        max_attempts=5,
        max_crashes=2,
        timeout_s=30,
        unique=True,
        tags=["a"],
        meta={"team": "x"},
        run_in="process",
    )(send)
    job = task.job("ada")
    assert (job.kind, job.queue, job.priority, job.max_attempts) == ("mail.send", "mail", 1, 5)
    assert (job.max_crashes, job.timeout_s, job.tags, job.meta) == (2, 30, ("a",), {"team": "x"})
    assert job.unique == Unique()
    assert job.returns is str
    assert task.run_in == "process"
    assert task.job("ada").options(unique=Unique(on_conflict=OnConflict.REJECT), queue="q").queue == "q"
    assert app.tasks == {"mail.send": task}


def test_a_task_without_a_policy_has_that_of_its_application() -> None:
    policy, other = RetryPolicy.fixed(1), RetryPolicy.fixed(2)
    app = GoQueue(retry=policy)
    assert app.task(send).retry is policy
    assert app.task(kind="b", retry=other)(send).retry is other


def test_a_kind_can_be_defined_once() -> None:
    app = GoQueue()
    task = app.task(send)
    with pytest.raises(DuplicateTask, match=r"test_app\.send and .*give one of them kind="):
        app.task(send)
    assert app.tasks == {"send": task}


def test_tasks_cannot_be_added_behind_the_back_of_the_application() -> None:
    with pytest.raises(TypeError):
        GoQueue().tasks["x"] = None  # type: ignore[index]


def test_an_unknown_kind_says_which_there_are() -> None:
    app = GoQueue()
    app.task(send)
    with pytest.raises(UnknownTask, match=r"'nope'.*send"):
        app.find("nope")


def starred(*to: str) -> None: ...
def double_starred(**to: str) -> None: ...
def positional_only(to: str, /) -> None: ...
def late_context(to: str, ctx: Context[None]) -> None: ...
def no_json_default(clock: Callable[[], float] = time.time) -> None: ...
def lying_default(n: int = "one") -> None: ...  # type: ignore[assignment]
def two_dataclasses(value: set[int] | list[int]) -> None: ...
def bad_result() -> set[int] | list[int]: ...  # type: ignore[empty-body]
def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function, words",
    [
        (starred, r"\*to cannot be stored by name"),
        (double_starred, r"\*\*to cannot be stored by name"),
        (positional_only, "positional-only parameter 'to'"),
        (late_context, "Context must be the first"),
        (no_json_default, "default of 'clock'"),
        (lying_default, "default of 'n'"),
        (two_dataclasses, "a parameter has a type"),
        (bad_result, "the result has a type"),
        (generator, "not yield"),
        (async_generator, "not yield"),
        (functools.partial(send, "ada"), "must be a function"),
        (GoQueue, "must be a function"),
    ],
)
def test_what_cannot_be_a_task_is_refused_at_its_definition(function: Callable[..., Any], words: str) -> None:
    app = GoQueue()
    with pytest.raises(DefinitionError, match=words):
        app.task(kind="x")(function)
    assert not app.tasks


@pytest.mark.parametrize(
    "options, words",
    [
        ({"kind": ""}, "/kind"),
        ({"kind": "a\0"}, "/kind"),
        ({"queue": " q"}, "/queue"),
        ({"priority": 10}, "/priority"),
        ({"priority": 2**31}, "/priority"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"timeout_s": float("nan")}, "/timeout_s"),
        ({"timeout_s": 0}, "/timeout_s"),
        ({"tags": ["x"] * 17}, "/tags"),
        ({"meta": {"a": 1}}, "/meta/a"),
        ({"unique": ""}, "/unique/key"),
        ({"run_in": "thread"}, "run_in"),
    ],
)
def test_options_out_of_bounds_are_refused_at_the_definition(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        GoQueue().task(**options)(send)


def test_the_context_is_no_argument() -> None:
    def work(ctx: Context[int], n: int) -> int:
        return n

    task = GoQueue().task(work)
    assert task.wants_context
    assert task.decode(task.job(n=1).args) == {"n": 1}
    assert not GoQueue().task(send).wants_context


def test_none_as_a_default_makes_a_parameter_optional() -> None:
    def work(n: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    task = GoQueue().task(work)
    assert task.decode(task.job().args) == {"n": None}
    assert task.decode(task.job(5).args) == {"n": 5}


def test_an_annotation_that_comes_later_in_the_module_is_found_later() -> None:
    module: dict[str, Any] = {"app": GoQueue(), "__name__": __name__}
    exec(  # noqa: S102  a module of its own
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@app.task\n"
        "def work(p: Point) -> None: ...\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n",
        module,
    )
    module["app"].check()
    assert module["work"].decode(b'{"p": {"x": 1}}') == {"p": module["Point"](1)}


def test_an_annotation_that_is_never_found_says_what_to_do() -> None:
    def work(part: Fraction) -> None: ...

    app = GoQueue()
    task = app.task(work)
    for use in (app.check, lambda: task.job(part=None), lambda: task.decode(b"{}")):  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match=r"'Fraction'.*not under TYPE_CHECKING"):
            use()


def test_include_takes_the_tasks_of_another_application_or_none() -> None:
    one, two, three = GoQueue(), GoQueue(), GoQueue()
    a = one.task(kind="a")(send)
    two.include(one)
    two.include(one)  # the same tasks again are no duplicates
    assert two.tasks == {"a": a}
    three.task(kind="b")(send)
    three.task(kind="a")(send)
    with pytest.raises(DuplicateTask):
        two.include(three)
    assert set(two.tasks) == {"a"}


def test_an_included_lifespan_is_not_dropped_in_silence() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[int]:
        yield 1

    inner = GoQueue(lifespan=lifespan)
    with pytest.raises(DefinitionError, match="one lifespan"):
        GoQueue().include(inner)
    GoQueue(lifespan=lifespan).include(inner)


def test_defining_tasks_loads_no_driver_and_no_framework() -> None:
    code = (
        "import sys; from goqueue.tasks.app import GoQueue; import goqueue.client._sync.client;"
        "app = GoQueue(); app.task(kind='x')(lambda n: n).job(1);"
        "heavy = ('pydantic', 'psycopg', 'starlette', 'httpx', 'typer', 'rich', 'django', 'fastapi', 'litestar');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
