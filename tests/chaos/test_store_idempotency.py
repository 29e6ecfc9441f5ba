"""Fault 24: idempotency keys, under races and when servers are killed."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from goqueue.tasks.prepare import new_id
from tests.chaos.clients import note_acknowledged, post_until_answered
from tests.chaos.harness import Chaos, Server
from tests.support.processes import until
from tests.support.proxy import Proxy, Where

MALFORMED = (b"", b"x" * 256, b"caf\xc3\xa9", b"a\tb")
CREATED, INSERTED, ANSWERED = "INSERT INTO goqueue.record", "INSERT INTO goqueue.job (", "UPDATE goqueue.record SET"
"""The three commits of a request with a key: its record, its job, its answer."""


def _post(server: Server, key: str | bytes, **body: Any) -> httpx.Response:
    return server.http.post("/v1/jobs", json={"kind": "work", **body}, headers={b"idempotency-key": _raw(key)})


def _raw(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _jobs_of(chaos: Chaos, mark: str) -> list[str]:
    rows = chaos.sql(
        "SELECT id::text FROM goqueue.job WHERE meta ->> 'mark' = %s "
        "UNION ALL SELECT id::text FROM goqueue.job_history WHERE meta ->> 'mark' = %s",
        mark,
        mark,
    )
    return [row[0] for row in rows]


def test_24_one_idempotency_key_has_one_answer(chaos: Chaos) -> None:
    server = chaos.server()
    for n in range(chaos.pick(5, 50)):
        mark = f"{n}"
        body: dict[str, Any] = {"meta": {"mark": mark}, "args": {"ms": n}}
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _, m=mark, b=body: _post(server, m, **b), range(16)))
        # Together: each gets the answer, or is told to wait.
        told = [answer for answer in answers if answer.status_code == 201]
        assert told
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in told}) == 1
        (id,) = _jobs_of(chaos, mark)
        assert told[0].json()["id"] == id
        note_acknowledged(chaos.ledger, id)
        again = _post(server, mark, **body)
        assert (again.status_code, again.content) == (201, told[0].content)
        assert again.headers["idempotency-replayed"] == "true"
        other = _post(server, mark, **{**body, "args": {"ms": n + 1}})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        assert _jobs_of(chaos, mark) == [id]
    for key in MALFORMED:
        answer = _post(server, key, meta={"mark": "malformed"})
        assert answer.status_code == 400, (key, answer.text)
    assert _jobs_of(chaos, "malformed") == []
    worker = chaos.worker()
    chaos.settle()
    # Its job is history by now: the answer is still the same.
    assert _post(server, "0", meta={"mark": "0"}, args={"ms": 0}).headers["idempotency-replayed"] == "true"
    assert server.stop() == 0
    assert worker.stop() == 0, worker.output
    chaos.check()


def test_24_a_server_is_killed_between_insert_and_answer(chaos: Chaos) -> None:
    """The proxy holds an answer back, and it is killed. Another one, asked the same, has one job to show."""
    places = [CREATED, INSERTED, ANSWERED]
    with Proxy(chaos.url) as proxy, ThreadPoolExecutor(1) as pool:
        worker = chaos.worker()
        other = chaos.server()
        for place in [INSERTED, *(places if chaos.full else chaos.random.sample((CREATED, ANSWERED), 1))]:
            mark = new_id()
            body: dict[str, Any] = {"meta": {"mark": mark}}
            doomed = chaos.server(GOQUEUE_URL=proxy.url)
            proxy.cut(place, where=Where.SILENT)
            asked = pool.submit(_post, doomed, mark, **body)
            proxy.wait_for_cut()
            stored = _jobs_of(chaos, mark)
            assert len(stored) == (0 if place == CREATED else 1), place
            if place == INSERTED:
                assert until(lambda ids=stored: chaos.is_final(ids[0])), "it has run"  # type: ignore[misc]  # captured
            # The first request is still in progress.
            meanwhile = _post(other, mark, **body)
            assert meanwhile.status_code in (201, 409), meanwhile.text
            chaos.kill(doomed.process)
            assert isinstance(asked.exception(30), httpx.TransportError)
            answer = post_until_answered(
                other.http, "/v1/jobs", {"kind": "work", **body}, headers={"idempotency-key": mark}
            )
            assert answer.status_code == 201, answer.text
            assert _jobs_of(chaos, mark) == [answer.json()["id"]], place
            assert not stored or stored == [answer.json()["id"]]
            if meanwhile.status_code == 201:
                assert meanwhile.content == answer.content
            mismatch = _post(other, mark, meta={"mark": "another"})
            assert mismatch.status_code == 422
            note_acknowledged(chaos.ledger, answer.json()["id"])
        chaos.settle()
        assert other.stop() == 0
        assert worker.stop() == 0, worker.output
    chaos.check()
    _each_ran_once(chaos)


@pytest.mark.full
def test_24_servers_are_killed_under_load(chaos: Chaos) -> None:
    """Callers repeat each request until it is answered, by whichever server is there."""
    servers = [chaos.server()]
    worker = chaos.worker("--concurrency", "8")
    end = threading.Event()
    told: dict[str, str] = {}

    def call(number: int) -> None:
        count = 0
        while not end.is_set():
            mark = f"{number}/{count}"
            count += 1
            body = {"kind": "work", "meta": {"mark": mark}}
            while mark not in told:
                try:
                    answer = httpx.post(
                        f"{servers[-1].url}/v1/jobs", json=body, headers={"idempotency-key": mark}, timeout=20
                    )
                except httpx.TransportError:
                    end.wait(0.02)
                    continue
                if answer.status_code == 201:
                    told[mark] = answer.json()["id"]
                    note_acknowledged(chaos.ledger, told[mark])
                else:
                    assert answer.status_code in (409, 503), answer.text

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call, number) for number in range(8)]
        try:
            for _ in range(12):
                seen = len(told)
                chaos.wait(lambda n=seen: len(told) > n + 20, "requests are answered")  # type: ignore[misc]  # captured
                servers.append(chaos.server())
                chaos.kill(servers[-2].process)
        finally:
            end.set()
        for caller in callers:
            caller.result(60)
    chaos.settle()
    assert servers[-1].stop() == 0
    assert worker.stop() == 0, worker.output
    rows = chaos.sql("SELECT meta ->> 'mark', id::text FROM goqueue.job_history")
    assert sorted(rows) == sorted(told.items())
    chaos.check()
    _each_ran_once(chaos)


def _each_ran_once(chaos: Chaos) -> None:
    started = Counter(entry.id for entry in chaos.ledger.find("start"))
    assert set(started.values()) == {1}, "a job ran twice"
