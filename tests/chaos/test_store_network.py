"""Faults 14 and 15: a network that swallows everything, and one that breaks every connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from goqueue.client._sync.client import Client
from goqueue.model.errors import ResultTimeout, StoreUnavailable
from goqueue.model.job import NewJob
from goqueue.settings import ClientSettings
from tests.chaos.clients import async_client, sync_client
from tests.chaos.harness import Chaos, Send, Server
from tests.support.proxy import Proxy

BACK_S = 5.0
"""Within this time all works again once the network does."""
READY_S = 0.5
TIGHT = {
    "GOQUEUE_STORE_STATEMENT_TIMEOUT_S": "2",
    "GOQUEUE_STORE_CONNECT_TIMEOUT_S": "2",
    "GOQUEUE_SERVER_READY_S": f"{READY_S}",
    "GOQUEUE_SERVER_REQUEST_TIMEOUT_S": "6",
}
ONCE = ClientSettings(enqueue_tries=1)
SLACK_S = 5.0
"""What a busy machine may add to a deadline."""


class Site:
    """A server and a worker behind a proxy. Its worker alone takes the queue "far"."""

    def __init__(self, chaos: Chaos, proxy: Proxy, **variables: str) -> None:
        self.chaos = chaos
        self.proxy = proxy
        self.worker = chaos.worker(
            "--queues", "far,default", "--concurrency", "8", GOQUEUE_URL=proxy.url, **TIGHT, **variables
        )
        self.server: Server = chaos.server(GOQUEUE_URL=proxy.url, **TIGHT, **variables)

    def post(self, queue: str = "far") -> str | None:
        """Submit by the server; None for a 503."""
        (job,) = self.chaos.jobs("work", options={"queue": queue})
        body = {"kind": job.kind, "id": job.id, "queue": queue, "args": {}}
        self.chaos.ledger.write("sent", id=job.id, kind=job.kind)
        answer = self.server.http.post("/v1/jobs", json=body)
        if answer.status_code == 503:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["retryable"] is True
            self.chaos.ledger.write("failed", id=job.id)
            return None
        assert answer.status_code == 201, answer.text
        self.chaos.ledger.write("acknowledged", id=job.id)
        return job.id

    def ready(self) -> bool:
        answer = self.server.http.get("/readyz")
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    def works_within(self, limit_s: float) -> float:
        """Wait until a job goes in at the server and is run by the worker; how long that took."""
        began = time.monotonic()
        id: str | None = None
        while id is None:
            id = self.post()
            assert time.monotonic() - began < limit_s, f"no job gets in (seed {self.chaos.seed})"
        left_s = limit_s - (time.monotonic() - began)
        self.chaos.wait(lambda: self.chaos.is_final(id), "a job that got in after the fault is run", left_s)
        self.chaos.wait(self.ready, "the server is ready again", left_s)
        return time.monotonic() - began

    def stop(self) -> None:
        assert self.server.stop() == 0, self.server.process.output
        assert self.worker.stop() == 0, self.worker.output


@contextmanager
def watching(site: Site) -> Iterator[list[tuple[float, float, bool]]]:
    """Ask /readyz again and again in the background: when it was asked, when it answered, and what."""
    seen: list[tuple[float, float, bool]] = []
    end = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=site.server.url, timeout=30) as http:
            while not end.is_set():
                asked_at = time.monotonic()
                ok = http.get("/readyz").status_code == 200
                seen.append((asked_at, time.monotonic(), ok))
                end.wait(0.1)

    thread = threading.Thread(target=watch, name="readyz")
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join(30)


def test_14_a_black_hole(chaos: Chaos) -> None:
    """In which nothing arrives any more, or only the requests do."""
    with Proxy(chaos.url) as proxy, ThreadPoolExecutor(4) as pool:
        site = Site(chaos, proxy)
        # On the good side: it sweeps what the far one holds.
        near = chaos.worker("--queues", "default") if chaos.full else None
        with chaos.flow("work", every_s=0.05, ms=30), waiting_clients(proxy) as (client, job_id):
            for answers_only in (False, True) if chaos.full else (chaos.random.random() < 0.5,):
                print(f"a black hole for {'answers' if answers_only else 'everything'}")
                site.works_within(30)
                held = chaos.enqueue("gated", 2, name=f"{answers_only}", options={"queue": "far"})
                for id in held:
                    chaos.wait_started(id)
                chaos.open_gate(f"{answers_only}")
                proxy.black_hole(answers_only=answers_only)
                began = time.monotonic()
                _all_waits_end(site, pool, client, job_id)
                chaos.wait(lambda b=began: time.monotonic() - b >= chaos.pick(3, 30), "its time is over")  # type: ignore[misc]  # captured
                assert not site.ready()
                proxy.heal()
                print(f"back after {site.works_within(BACK_S):.1f} s")
        chaos.settle()
        site.stop()
        assert near is None or near.stop() == 0
    chaos.check()


def _all_waits_end(site: Site, pool: ThreadPoolExecutor, client: Client, job_id: str) -> None:
    """In the black hole: every call ends at its deadline, and nothing else does."""
    began = time.monotonic()
    deadlines = [
        ("client.enqueue", 2 + 2, pool.submit(_fails, client)),
        ("client.result", 1 + 2, pool.submit(_times_out, client, job_id)),
        ("async client.enqueue", 2 + 2, pool.submit(_fails_async, site.proxy.url)),
    ]
    assert site.post() is None, "a server that hears nothing says 503"
    assert time.monotonic() - began < 6 + SLACK_S
    asked_at = time.monotonic()
    assert not site.ready()
    assert time.monotonic() - asked_at < READY_S + SLACK_S
    assert site.server.http.get("/livez").status_code == 200
    for what, limit_s, future in deadlines:
        took_s = _result(future, what)
        assert took_s < limit_s + SLACK_S, f"{what} took {took_s:.1f} s (seed {site.chaos.seed})"
    assert site.worker.popen.poll() is None


@contextmanager
def waiting_clients(proxy: Proxy) -> Iterator[tuple[Client, str]]:
    """A client with warm connections, and a job that nobody takes."""
    with sync_client(proxy.url, ONCE, statement_timeout_s=2, connect_timeout_s=2) as client:
        idle = client.enqueue(NewJob[object](kind="work", queue="nobody"))
        yield client, idle.id


def _fails(client: Client) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        client.enqueue(NewJob(kind="work", queue="nobody"))
    return time.monotonic() - began


def _fails_async(url: str) -> float:
    async def run() -> float:
        began = time.monotonic()
        async with async_client(
            url, ClientSettings(enqueue_tries=2), statement_timeout_s=2, connect_timeout_s=2
        ) as one:
            with pytest.raises(StoreUnavailable):
                await one.enqueue(NewJob(kind="work", queue="nobody"))
        return time.monotonic() - began

    return asyncio.run(run())


def _times_out(client: Client, id: str) -> float:
    began = time.monotonic()
    with pytest.raises((ResultTimeout, StoreUnavailable)):
        client.get(id).result(timeout_s=1)
    return time.monotonic() - began


def _result(future: Future[float], what: str) -> float:
    try:
        return future.result(60)
    except TimeoutError:
        raise AssertionError(f"{what} waits for ever") from None


END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def test_15_connections_are_reset_again_and_again(chaos: Chaos) -> None:
    resets, every_s = chaos.pick(12, 100), chaos.pick(150, 300) / 1000
    with Proxy(chaos.url) as proxy:
        site = Site(chaos, proxy)
        with chaos.flow("work", every_s=0.05, ms=20), watching(site) as seen:
            site.works_within(30)
            for _ in range(resets):
                proxy.reset_all()
                time.sleep(chaos.random.uniform(0, 2 * every_s))
            print(f"back after {site.works_within(BACK_S):.1f} s of resets")
            for _ in range(chaos.pick(2, 30)):
                assert chaos.sql(END_ALL)
                time.sleep(1)
            print(f"back after {site.works_within(BACK_S):.1f} s of terminated backends")
            for _ in range(chaos.pick(1, 5)):
                _refused_for_a_while(site, seen)
        chaos.settle()
        site.stop()
    chaos.check()


def _refused_for_a_while(site: Site, seen: list[tuple[float, float, bool]]) -> None:
    """The host refuses: connections break, and no new one comes."""
    site.proxy.refusing = True
    site.proxy.reset_all()
    began = time.monotonic()
    assert site.post() is None
    site.chaos.wait(lambda: not site.ready(), "the server says that it is not ready", READY_S + SLACK_S)
    false_from = time.monotonic()
    site.chaos.wait(lambda: time.monotonic() - began > 4 * READY_S, "a while")
    false_to = time.monotonic()
    site.proxy.refusing = False
    print(f"back after {site.works_within(BACK_S):.1f} s of refusal")
    # A question that waits when the database comes back is answered with yes.
    told = [ok for asked_at, told_at, ok in seen if false_from <= asked_at and told_at <= false_to]
    assert not any(told), "ready while there was no database"


def test_15_who_waits_for_a_connection_gets_it_when_the_database_is_back(chaos: Chaos) -> None:
    """And not only when the wait has timed out: nobody else may be there to ask for one."""
    away_s = 0.5
    with Proxy(chaos.url) as proxy, sync_client(proxy.url, connect_timeout_s=30, statement_timeout_s=30) as client:
        ids: list[str] = []
        for way in (_sync_enqueue(client), _async_enqueue(proxy.url)):
            ids += chaos.submit(chaos.jobs("work"), way)
            proxy.refusing = True
            proxy.reset_all()
            back = threading.Timer(away_s, setattr, (proxy, "refusing", False))
            back.start()
            began = time.monotonic()
            ids += chaos.submit(chaos.jobs("work"), way)
            back.join()
            assert away_s <= time.monotonic() - began < away_s + BACK_S
    chaos.check(open=ids)


def _sync_enqueue(client: Client) -> Send:
    return lambda jobs: [client.enqueue(job).id for job in jobs]


def _async_enqueue(url: str) -> Send:
    async def send(jobs: Sequence[NewJob[Any]]) -> list[str]:
        async with async_client(url, connect_timeout_s=30, statement_timeout_s=30) as client:
            return [(await client.enqueue(job)).id for job in jobs]

    return lambda jobs: asyncio.run(send(jobs))
