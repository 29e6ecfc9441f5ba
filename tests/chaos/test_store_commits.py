"""Fault 19: commits of which nobody knows whether they were made, because the connection broke before the answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from goqueue.client._sync.client import Client
from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import ErrorInfo, NewJob, Unique
from goqueue.model.lease import Beat, Lease, Want, WorkerInfo
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Outcome, Release, Retry, Settlement, Snooze
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.tasks.prepare import new_id
from tests.chaos.clients import async_client, note_acknowledged, post_until_answered, sync_client
from tests.chaos.harness import Chaos, Send, Server
from tests.support.processes import until
from tests.support.proxy import Proxy, Where

INSERT = "INSERT INTO goqueue.job ("
SETTLE = "INSERT INTO goqueue.job_history"
BULK = 20
CUTS = (Where.BEFORE, Where.WITHOUT_ANSWER, Where.AT_ONCE)


class Ways:
    """All the ways in which a job gets in, by way of a proxy."""

    def __init__(self, chaos: Chaos, url: str, client: Client, server: Server) -> None:
        self._chaos = chaos
        self._url = url
        self._client = client
        self._http = server.http
        self.all: dict[str, tuple[int, Callable[[str], list[str]]]] = {
            "client": (1, self._with(self._send)),
            "client_many": (BULK, self._with(self._send, BULK)),
            "client_keyed": (1, self._with(self._send, keyed=True)),
            "client_fresh": (1, self._fresh),
            "async": (1, self._with(self._send_async)),
            "async_many": (BULK, self._with(self._send_async, BULK)),
            "http_id": (1, self._with(self._post)),
            "http_idempotency_key": (1, self._post_fresh),
            "http_batch": (BULK, self._post_batch),
        }

    def _with(self, send: Send, count: int = 1, *, keyed: bool = False) -> Callable[[str], list[str]]:
        def run(mark: str) -> list[str]:
            options: dict[str, Any] = {"meta": {"mark": mark}}
            if keyed:
                options["unique"] = Unique(key=mark)
            return self._chaos.submit(self._chaos.jobs("work", count, options=options), send)

        return run

    def _send(self, jobs: Sequence[NewJob[Any]]) -> list[str]:
        if len(jobs) == 1:
            return [self._client.enqueue(jobs[0]).id]
        return [job.id for job in self._client.enqueue_many(jobs)]

    def _send_async(self, jobs: Sequence[NewJob[Any]]) -> list[str]:
        async def send() -> list[str]:
            async with async_client(self._url) as client:
                if len(jobs) == 1:
                    return [(await client.enqueue(jobs[0])).id]
                return [job.id for job in await client.enqueue_many(jobs)]

        return asyncio.run(send())

    def _fresh(self, mark: str) -> list[str]:
        """Without an id of the caller's: the first try is one statement in autocommit."""
        id = self._client.enqueue(NewJob(kind="work", args=b"{}", meta={"mark": mark})).id
        note_acknowledged(self._chaos.ledger, id)
        return [id]

    def _post(self, jobs: Sequence[NewJob[Any]]) -> list[str]:
        body = {"kind": "work", "id": jobs[0].id, "args": json.loads(jobs[0].args), "meta": jobs[0].meta}
        answer = post_until_answered(self._http, "/v1/jobs", body)
        assert answer.status_code in (200, 201), answer.text
        return [answer.json()["id"]]

    def _post_fresh(self, mark: str) -> list[str]:
        body = {"kind": "work", "meta": {"mark": mark}}
        answer = post_until_answered(self._http, "/v1/jobs", body, headers={"idempotency-key": mark})
        assert answer.status_code == 201, answer.text
        note_acknowledged(self._chaos.ledger, answer.json()["id"])
        return [answer.json()["id"]]

    def _post_batch(self, mark: str) -> list[str]:
        body = {"jobs": [{"kind": "work", "meta": {"mark": mark}}] * BULK}
        # An answer with errors that may pass is not kept: asked again, it gets better.
        answers: list[list[str]] = []

        def done() -> bool:
            answer = post_until_answered(self._http, "/v1/jobs/batch", body, headers={"idempotency-key": mark})
            assert answer.status_code == 200, answer.text
            results = answer.json()["results"]
            answers.append([result["job"]["id"] for result in results if result.get("job")])
            return len(answers[-1]) == BULK

        assert until(done)
        for id in answers[-1]:
            note_acknowledged(self._chaos.ledger, id)
        return answers[-1]


def test_19_an_enqueue_whose_commit_was_not_answered(chaos: Chaos) -> None:
    short = {"GOQUEUE_STORE_STATEMENT_TIMEOUT_S": "3"}
    with Proxy(chaos.url) as proxy, sync_client(proxy.url) as client, ThreadPoolExecutor(1) as pool:
        worker = chaos.worker("--concurrency", "8")  # on the straight way: it runs what has been committed
        server = chaos.server(GOQUEUE_URL=proxy.url, **short)
        ways = Ways(chaos, proxy.url, client, server)
        plan = list(itertools.product(ways.all, CUTS, (False, True)))
        # All that is known to be committed has run before the caller asks again: it is history by then.
        plan = [one for one in plan if one[1:] != (Where.BEFORE, True)]
        if not chaos.full:
            certain = [(way, Where.WITHOUT_ANSWER, True) for way in ways.all]
            plan = [*certain, *chaos.random.sample(plan, 2)]
        for way, where, history in plan:
            about = f"{way}, cut {where.name}, {'run before the retry' if history else 'asked again at once'}"
            mark = new_id()
            proxy.cut(INSERT, about=mark, where=where, then_hole=history)
            asked = pool.submit(ways.all[way][1], mark)
            proxy.wait_for_cut()
            count = ways.all[way][0]
            if history:
                final = until(lambda m=mark, n=count: _final(chaos, m) == n, 20 if where is not Where.AT_ONCE else 1)  # type: ignore[misc]  # what a lambda captures
                proxy.heal()
                assert final or where is Where.AT_ONCE, about
            ids = asked.result(30)
            assert len(set(ids)) == count, about
            stored = _stored(chaos, mark)
            assert stored == Counter(ids), f"{about}: {stored} for {ids}"
        chaos.settle()
        assert server.stop() == 0
        assert worker.stop() == 0, worker.output
    started = Counter(entry.id for entry in chaos.ledger.find("start"))
    assert set(started.values()) == {1}, "a job ran twice"
    chaos.check()


@pytest.mark.full
@pytest.mark.xfail(
    strict=True,
    reason="with retention 0 nothing is left of a job by which a blind retry of its enqueue could know that it has run",
)
def test_19_an_enqueue_that_was_not_answered_into_a_queue_that_keeps_nothing(chaos: Chaos) -> None:
    with Proxy(chaos.url) as proxy, sync_client(proxy.url) as client, ThreadPoolExecutor(1) as pool:
        worker = chaos.worker(GOQUEUE_STORE_COMPLETED_RETENTION_S="0")
        try:
            jobs = chaos.jobs("work")
            id = jobs[0].id
            proxy.cut(INSERT, about=id, where=Where.WITHOUT_ANSWER, then_hole=True)
            asked = pool.submit(chaos.submit, jobs, lambda jobs: [client.enqueue(jobs[0]).id])
            proxy.wait_for_cut()
            chaos.wait(lambda: chaos.ledger.find("end", id=id) and not chaos.row(id), "it has run and is gone")
            proxy.heal()
            assert asked.result(30) == [id]
            chaos.wait(lambda: not chaos.row(id), "nothing is left of it")
        finally:
            proxy.heal()
            assert worker.stop() == 0, worker.output
    chaos.check(vanished=[id])
    assert len(chaos.ledger.find("start", id=id)) == 1


def _final(chaos: Chaos, mark: str) -> int:
    return int(chaos.sql("SELECT count(*) FROM goqueue.job_history WHERE meta ->> 'mark' = %s", mark)[0][0])


def _stored(chaos: Chaos, mark: str) -> Counter[str]:
    live = "SELECT id::text FROM goqueue.job WHERE meta ->> 'mark' = %(mark)s"
    final = "SELECT id::text FROM goqueue.job_history WHERE meta ->> 'mark' = %(mark)s"
    both = f"{live} UNION ALL {final}".replace("%(mark)s", "%s")
    return Counter(row[0] for row in chaos.sql(both, mark, mark))


# -- settles ------------------------------------------------------------------------------------------------------

ERROR = ErrorInfo("Broken", "on purpose")
OUTCOMES: tuple[Outcome, ...] = (
    Complete(b"1"),
    Retry(600, ERROR),
    Snooze(600),
    Cancel("not wanted"),
    Dead(ERROR),
    Crash(ERROR),
    Release(),
)
WAITING = (Retry, Snooze, Crash, Release)


@pytest.mark.parametrize("with_claim", [False, True])
async def test_19_a_settle_whose_commit_was_not_answered(chaos: Chaos, with_claim: bool) -> None:
    """Store level, so that the answers can be seen. One of each outcome in a batch, cut at each place."""
    open_: list[str] = []
    with Proxy(chaos.url) as proxy:
        store = PostgresStore(proxy.url, settings=StoreSettings(statement_timeout_s=5, crash_delay_s=600))
        await store.open()
        try:
            worker = WorkerInfo(id=new_id(), queues=("default",))
            await store.extend(Beat(worker=worker, ttl_s=60))
            for where in CUTS * chaos.pick(1, 10):
                batch = chaos.enqueue("work", len(OUTCOMES), options={"max_crashes": 10})
                leases = await _claim(store, worker.id, len(batch))
                assert {lease.id for lease in leases} == set(batch)
                outcomes = [
                    Settlement(lease.ref, lease.fence, outcome) for lease, outcome in zip(leases, OUTCOMES, strict=True)
                ]
                more = chaos.enqueue("work", 3, options={"queue": "other"}) if with_claim else []
                proxy.cut(SETTLE, about=leases[0].id, where=where)
                want = Want(worker_id=worker.id, queues=("other",), total=3)
                asked = store.claim(want, outcomes) if with_claim else store.settle(outcomes)
                with pytest.raises(StoreUnavailable):
                    await asked
                await asyncio.to_thread(proxy.wait_for_cut)
                answers = await _settle(store, outcomes)
                expected = {
                    Where.BEFORE: {Answer.APPLIED},
                    Where.WITHOUT_ANSWER: {Answer.ALREADY},
                    # Both may be under way at a time: then each row is written by the one that had it first.
                    Where.AT_ONCE: {Answer.APPLIED, Answer.ALREADY},
                }[where]
                assert answers <= expected, f"cut {where.name}: {answers}"
                assert set(await store.settle(outcomes)) == {Answer.ALREADY}
                again = {
                    lease.id for lease, outcome in zip(leases, OUTCOMES, strict=True) if isinstance(outcome, WAITING)
                }
                await _put_off(chaos, store, worker.id, again)
                open_ += again
                if with_claim:
                    await _end_all(store, worker, more)
            await store.extend(Beat(worker=worker, ttl_s=0))
        finally:
            await store.close()
    chaos.check(open=open_)


async def _settle(store: PostgresStore, outcomes: list[Settlement]) -> set[Answer]:
    """Settle, and again what was busy: rows that the cut-off statement holds until its backend has noticed.

    That can be so in all cuts, also in one before the commit: a statement runs before the end of its transaction is
    sent. What had its answer is not asked again: it would be "already" by our own doing.
    """
    answers: set[Answer] = set()
    for _ in range(100):
        given = await store.settle(outcomes)
        answers.update(answer for answer in given if answer is not Answer.BUSY)
        outcomes = [outcome for outcome, answer in zip(outcomes, given, strict=True) if answer is Answer.BUSY]
        if not outcomes:
            return answers
        await asyncio.sleep(0.05)
    raise AssertionError("busy for ever")


async def _claim(store: PostgresStore, worker_id: str, total: int, queue: str = "default") -> list[Lease]:
    want = Want(worker_id=worker_id, queues=(queue,), total=total)
    return list((await store.claim(want)).leases)


async def _put_off(chaos: Chaos, store: PostgresStore, worker_id: str, ids: set[str]) -> None:
    """The released job is due again: snooze it, so that the next round's claims get only its own."""
    leases = await _claim(store, worker_id, 10)
    assert {lease.id for lease in leases} < ids, "only what was released is due"
    later = [Settlement(lease.ref, lease.fence, Snooze(600)) for lease in leases]
    assert set(await store.settle(later)) == {Answer.APPLIED}


async def _end_all(store: PostgresStore, worker: WorkerInfo, ids: list[str]) -> None:
    """What the cut claim gave, unheard, comes back as strays; the rest can be claimed."""
    beaten = await store.extend(Beat(worker=worker, ttl_s=60))
    assert {held.ref.id for held in beaten.strays} <= set(ids)
    back = [Settlement(held.ref, held.fence, Release()) for held in beaten.strays]
    assert all(answer is Answer.APPLIED for answer in await store.settle(back))
    leases = await _claim(store, worker.id, 10, "other")
    assert {lease.id for lease in leases} == set(ids)
    done = [Settlement(lease.ref, lease.fence, Complete()) for lease in leases]
    assert set(await store.settle(done)) == {Answer.APPLIED}


def test_19_a_worker_whose_commits_are_not_answered(chaos: Chaos) -> None:
    """The engine asks again by itself: no job is run a second time, and none is lost."""
    calm = {"GOQUEUE_WORKER_LEASE_S": "20", "GOQUEUE_WORKER_BEAT_S": "0.5", "GOQUEUE_STORE_STATEMENT_TIMEOUT_S": "3"}
    with Proxy(chaos.url) as proxy:
        worker = chaos.worker("--concurrency", "8", GOQUEUE_URL=proxy.url, **calm)
        with chaos.flow("work", every_s=0.01, per_batch=4, ms=5):
            for _ in range(chaos.pick(8, 60)):
                proxy.cut(SETTLE, where=chaos.random.choice(CUTS))
                proxy.wait_for_cut()
        chaos.settle()
        assert worker.stop() == 0, worker.output
    starts = Counter((entry.id, entry.fence) for entry in chaos.ledger.find("start"))
    assert len({id for id, _ in starts}) == len(starts), "a job ran twice"
    # A claim that was not heard is handed back; asked again, that may find the job claimed anew. But no result is lost.
    lost = set(re.findall(r"answer=lost .*outcome=(\w+)", worker.output))
    assert lost <= {"release"}, worker.output
    chaos.check()
