"""Pages of jobs: short when the jobs are large, and never one lost or told twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from goqueue.model.job import NewJob
from goqueue.model.query import Filter, Page, Query
from goqueue.service.access import Caller, Scope
from goqueue.service.jobs import PAGE_BYTES_MAX, Jobs, JobsPage
from goqueue.tasks.prepare import prepare
from tests.support.faulty_store import FaultyStore

CALLER = Caller(tenant="default", scopes=frozenset(Scope))
KIB = 1024


class Finding(FaultyStore):
    """Notes what is asked, and may look at only so many jobs for one page."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.look_max = 1_000

    async def find(self, query: Query) -> Page:
        """Find in at most ``look_max`` jobs."""
        self.asked.append(query.page_size)
        size = min(query.page_size, self.look_max)
        return await super().find(msgspec.structs.replace(query, page_size=size))


@pytest.fixture
async def store() -> AsyncIterator[Finding]:
    store = Finding()
    await store.open()
    yield store
    await store.close()


async def filled(store: Finding, sizes: list[int]) -> list[str]:
    """Store jobs with arguments of these sizes; return their ids, newest first."""
    jobs: list[NewJob[object]] = [prepare(NewJob(kind="k", args=b'{"a":"%s"}' % (b"x" * size))) for size in sizes]
    return sorted((enqueued.ref.id for enqueued in await store.enqueue(jobs)), reverse=True)


async def walked(store: Finding, page_size: int) -> list[JobsPage]:
    jobs = Jobs(store)
    pages = [await jobs.list(CALLER, Filter(), page_size=page_size, page_token="")]
    while pages[-1].next_page_token:
        assert len(pages) < 1_000
        pages.append(await jobs.list(CALLER, Filter(), page_size=page_size, page_token=pages[-1].next_page_token))
    return pages


def ids(pages: list[JobsPage]) -> list[str]:
    return [job.id for page in pages for job in page.jobs]


@pytest.mark.parametrize("page_size", [1, 49, 50, 51, 100, 120, 500])
@pytest.mark.parametrize("count", [0, 1, 50, 100, 120])
async def test_small_jobs_fill_their_pages(store: Finding, count: int, page_size: int) -> None:
    stored = await filled(store, [1] * count)
    pages = await walked(store, page_size)
    assert ids(pages) == stored
    assert all(len(page.jobs) == page_size for page in pages[:-1])
    assert max(store.asked) <= 50


@pytest.mark.parametrize("page_size", [3, 50, 60, 500])
async def test_large_jobs_make_short_pages(store: Finding, page_size: int) -> None:
    sizes = [1000 * KIB if i % 3 else 10 for i in range(70)]
    stored = await filled(store, sizes)
    pages = await walked(store, page_size)
    assert ids(pages) == stored
    assert all(len(msgspec.json.encode(page.jobs)) <= PAGE_BYTES_MAX + KIB for page in pages)
    assert max(store.asked) <= 50
    # Pages are as full as they may be: nothing but the bound (or the size asked) ends one.
    assert all(len(page.jobs) in (page_size, 11, 12, 13) for page in pages[:-1])


async def test_a_job_larger_than_a_page_has_one_to_itself(store: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.service.jobs.PAGE_BYTES_MAX", 10 * KIB)
    stored = await filled(store, [1, 20 * KIB, 20 * KIB, 1])
    pages = await walked(store, 50)
    assert ids(pages) == stored
    assert [len(page.jobs) for page in pages] == [1, 1, 1, 1]


@pytest.mark.parametrize("look_max", [1, 7, 49, 50])
async def test_a_page_goes_no_further_than_the_store_looked(store: Finding, look_max: int) -> None:
    stored = await filled(store, [1] * 60)
    store.look_max = look_max
    pages = await walked(store, 500)
    assert ids(pages) == stored
    assert len(pages[0].jobs) == (look_max if look_max < 50 else 60)


async def test_a_page_that_found_nothing_yet_goes_on(store: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may have looked at all that it looks at for one page without finding one job."""
    stored = await filled(store, [1] * 3)
    answers = [Page((), stored[0])]
    find = store.find

    async def looking(query: Query) -> Page:
        return answers.pop() if answers else await find(query)

    monkeypatch.setattr(store, "find", looking)
    pages = await walked(store, 500)
    assert [len(page.jobs) for page in pages] == [0, 2]
