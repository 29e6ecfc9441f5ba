"""What a batch task is: the job of one item, and what cannot be one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from goqueue.model.errors import DefinitionError, DuplicateTask, InvalidArguments
from goqueue.tasks.app import GoQueue
from goqueue.tasks.batch import BatchContext
from goqueue.tasks.context import Context


@dataclass
class Document:
    """An item."""

    title: str


@pytest.fixture
def app() -> GoQueue:
    return GoQueue()


def test_a_job_is_for_one_item(app: GoQueue) -> None:
    @app.batch_task(queue="index", timeout_s=5, max_attempts=3, tags=["a"])
    async def index(documents: Sequence[Document]) -> list[int | Exception]:
        """Index them."""
        return [len(document.title) for document in documents]

    job = index.job(Document("moby"))
    assert (job.kind, job.queue, job.timeout_s, job.max_attempts, job.tags) == ("index", "index", 5, 3, ("a",))
    assert job.args == b'{"item":{"title":"moby"}}'
    assert job.returns is int
    assert index.decode_item(job.args) == Document("moby")
    assert index.__doc__ == "Index them."
    assert (index.batch.max_size, index.batch.max_wait_s, index.calls_async) == (100, 0.05, True)
    assert app.tasks["index"] is index


async def test_calling_it_runs_the_function(app: GoQueue) -> None:
    @app.batch_task()
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    @app.batch_task()
    def half(numbers: list[int]) -> list[float]:
        return [number / 2 for number in numbers]

    assert await double([1, 2]) == [2, 4]
    assert half([1, 2]) == [0.5, 1.0]
    assert not half.calls_async


def test_an_item_that_does_not_fit_is_refused_at_the_caller(app: GoQueue) -> None:
    @app.batch_task()
    async def double(numbers: list[int]) -> list[int]:
        return numbers

    with pytest.raises(InvalidArguments) as refused:
        double.job("three")  # type: ignore[arg-type]  # what this is about
    assert refused.value.pointer == "/args/item"


def test_the_argument_can_have_the_name_that_stored_jobs_have(app: GoQueue) -> None:
    """A plain task, whose jobs are stored, can so become a batch task."""
    before = GoQueue()

    @before.task(kind="index")
    async def index_one(document: Document) -> int:
        return len(document.title)

    @app.batch_task(kind="index", item="document")
    async def index(documents: list[Document]) -> list[int]:
        return [len(document.title) for document in documents]

    assert index.job(Document("a")).args == index_one.job(Document("a")).args
    assert index.decode_item(index_one.job(Document("a")).args) == Document("a")


@pytest.mark.parametrize("union", [int | ValueError, ValueError | int, int | Exception])
def test_errors_are_no_part_of_the_result(app: GoQueue, union: Any) -> None:
    def handler(items: list[int]) -> list[Any]:
        return items

    handler.__annotations__["return"] = list[union]
    assert app.batch_task()(handler).returns is int


def test_what_stands_for_no_result(app: GoQueue) -> None:
    @app.batch_task()
    def send(items: list[int]) -> list[None]:
        return [None for _ in items]

    @app.batch_task()
    def bare(items: list) -> list:  # type: ignore[type-arg]  # what this is about
        return items

    assert send.returns in (None, type(None))
    assert bare.job({"a": [1]}).args == b'{"item":{"a":[1]}}'


def takes_none() -> list[int]:
    return []


def takes_two(a: list[int], b: list[int]) -> list[int]:
    return a + b


def takes_a_context(ctx: Context[None], items: list[int]) -> list[int]:
    return items


def takes_no_list(item: int) -> list[int]:
    return [item]


def takes_a_dict(items: dict[str, int]) -> list[int]:
    return list(items.values())


def returns_no_list(items: list[int]) -> int:
    return len(items)


def yields(items: list[int]) -> Any:
    yield from items


@pytest.mark.parametrize(
    "handler, said",
    [
        (takes_none, "one argument"),
        (takes_two, "one argument"),
        (takes_a_context, "BatchContext"),
        (takes_no_list, "list or Sequence"),
        (takes_a_dict, "list or Sequence"),
        (returns_no_list, "result must be annotated"),
        (yields, "yield"),
    ],
)
def test_what_cannot_be_one_says_why(app: GoQueue, handler: Callable[..., Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        app.batch_task()(handler)
    assert not app.tasks


@pytest.mark.parametrize(
    "options",
    [
        {"max_size": 0},
        {"max_size": 1_001},
        {"max_size": 2.0},
        {"max_wait_s": -1},
        {"max_wait_s": float("nan")},
        {"max_wait_s": 61},
        {"max_wait_s": "1"},
        {"item": "no name"},
        {"priority": 99},
    ],
)
def test_options_are_checked(app: GoQueue, options: dict[str, Any]) -> None:
    def handler(items: list[int]) -> list[int]:
        return items

    with pytest.raises(DefinitionError):
        app.batch_task(**options)(handler)


def test_a_kind_is_taken_once(app: GoQueue) -> None:
    @app.task
    def same(n: int) -> int:
        return n

    def handler(ctx: BatchContext[None], items: list[int]) -> list[int]:
        return items

    with pytest.raises(DuplicateTask):
        app.batch_task(kind="same")(handler)
