"""Types of many jobs: bulk, waiting, batches. Checked by mypy and pyright (`test_many.py`), never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

from goqueue import AsyncClient, AsyncJob, BatchContext, Client, EnqueuedMany, GoQueue, Job, NewJob, new_id
from goqueue.model.errors import ResultError
from goqueue.tasks.batch import BatchTask

app = GoQueue()
told: list[EnqueuedMany] = []


@dataclass
class State:
    """What a lifespan yields."""

    greeting: str


@dataclass
class Document:
    """An item."""

    title: str


class Row(TypedDict):
    """An item that is a dict."""

    n: int


@app.task
async def count(word: str) -> int:
    """A task for one job at a time."""
    return len(word)


@app.batch_task(max_size=100, max_wait_s=0.05, queue="index")
async def index(documents: Sequence[Document]) -> list[int]:
    """An async function of a sequence."""
    return [len(document.title) for document in documents]


@app.batch_task()
def index_plain(documents: list[Document]) -> list[str]:
    """A plain function of a list."""
    return [document.title for document in documents]


@app.batch_task()
async def with_context(ctx: BatchContext[State], rows: list[Row]) -> list[float]:
    """With a context."""
    assert_type(ctx.state, State)
    return [row["n"] / len(ctx) for row in rows]


@app.batch_task()
def with_context_plain(ctx: BatchContext[State], rows: Sequence[Row]) -> Sequence[bytes]:
    """A plain function with a context."""
    return [ctx.state.greeting.encode() for _ in rows]


@app.batch_task()
async def with_errors(numbers: list[int]) -> list[int | Exception]:
    """Some of its results are errors."""
    return [number or ValueError("zero") for number in numbers]


def jobs() -> None:
    """A job is for one item, and its result is that of one."""
    assert_type(index.job(Document("a")), NewJob[int])
    assert_type(index_plain.job(Document("a")), NewJob[str])
    assert_type(with_context.job({"n": 1}), NewJob[float])
    assert_type(with_context_plain.job({"n": 1}), NewJob[bytes])
    assert_type(with_errors.job(1), NewJob[int])
    assert_type(index.job(Document("a")).options(priority=1), NewJob[int])
    as_task: BatchTask[Document, int] = index
    index.job("a")  # type: ignore[arg-type]
    index.job([Document("a")])  # type: ignore[arg-type]
    del as_task


async def calls() -> None:
    """Calling one runs the function."""
    assert_type(index_plain([Document("a")]), Sequence[str | Exception])
    assert_type(await index([Document("a")]), Sequence[int | Exception])


def with_client(client: Client) -> None:
    """Handles, counts and results keep their types."""
    job = client.enqueue(index.job(Document("a")))
    assert_type(job, Job[int])
    assert_type(client.enqueue_many([count.job("a")]), list[Job[int]])
    assert_type(client.enqueue_many(stream(), progress=told.append, run_id=new_id()), list[Job[int]])
    assert_type(client.enqueue_many(stream(), handles=False), EnqueuedMany)
    assert_type(client.wait_all([job, job], timeout_s=1), list[int])
    assert_type(client.wait_all([job], return_exceptions=True), list[int | ResultError])
    for done in client.as_completed([job], timeout_s=1):
        assert_type(done, Job[int])
    client.wait_all([job.id])  # type: ignore[arg-type]


async def with_async_client(client: AsyncClient) -> None:
    """The same for the async client, which takes async iterators, too."""
    job = await client.enqueue(count.job("a"))
    assert_type(await client.enqueue_many(stream()), list[AsyncJob[int]])
    assert_type(await client.enqueue_many(async_stream()), list[AsyncJob[int]])
    assert_type(await client.enqueue_many(async_stream(), handles=False, progress=told.append), EnqueuedMany)
    assert_type(await client.wait_all([job]), list[int])
    assert_type(await client.wait_all([job], return_exceptions=True), list[int | ResultError])
    async for done in client.as_completed([job]):
        assert_type(done, AsyncJob[int])
    found: AsyncJob[Any] = await client.get("x")
    assert_type(await client.wait_all([found]), list[Any])


def stream() -> Iterator[NewJob[int]]:
    """Jobs that come one after the other."""
    yield count.job("a")


async def async_stream() -> AsyncIterator[NewJob[int]]:
    """The same, awaited."""
    yield count.job("a")
