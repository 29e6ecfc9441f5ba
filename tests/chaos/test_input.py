"""Faults 26 and 27: numbers at the edge, and arguments that a release no longer understands."""

from __future__ import annotations

import json

from tests.chaos.harness import Chaos, end_all

COMPLETED, DEAD = 3, 5
BAD = (
    '"run_at": "9999-12-31T23:59:59Z"',
    '"run_at": "-infinity"',
    '"run_at": "infinity"',
    '"run_at": "0001-01-01T00:00:00Z"',
    '"run_at": NaN',
    '"delay_s": 1e308',
    '"delay_s": -1',
    '"delay_s": NaN',
    '"delay_s": 1e999',
    '"priority": 2147483648',
    '"priority": -2147483648',
    '"priority": 10',
    '"priority": 1e100',
    '"max_attempts": 0',
    '"max_attempts": 9223372036854775808',
    '"max_attempts": 1e9',
    '"timeout_s": 0',
    '"timeout_s": -1e-300',
    '"timeout_s": 1e308',
    '"timeout_s": NaN',
)
EDGE = (
    '"run_at": "2000-01-01T00:00:00Z"',
    '"delay_s": 0',
    '"priority": 0',
    '"priority": 9',
    '"max_attempts": 100000',
    '"timeout_s": 2592000',
    '"timeout_s": 2.592e6',
)
DELAYS = ("1e308", "-1", "nan", "inf", "1e-300")
HUGE = 1_000_000
WRITTEN_BY_HAND = {"a list": "[1]", "a number": "1", "null": "null", "twice": '{"amount": 1, "amount": "x"}'}


def test_26_numbers_from_outside(chaos: Chaos) -> None:
    """Refused with 4xx or taken as they are: never a 5xx, and no worker dies of one."""
    server, fleet = chaos.server(), chaos.worker()
    for field in BAD:
        answer = server.http.post("/v1/jobs", content=f'{{"kind": "work", "args": {{}}, {field}}}')
        assert 400 <= answer.status_code < 500, (field, answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    jobs = [json.loads(f'{{"kind": "work", "args": {{}}, {field}}}') for field in EDGE]
    answer = server.http.post("/v1/jobs/batch", json={"jobs": jobs})
    assert answer.status_code == 200, answer.text
    ids = [str(result["job"]["id"]) for result in answer.json()["results"]]
    chaos.wait(lambda: all(chaos.is_final(id) for id in ids), "those at the edge run")
    assert {chaos.row(id)["state"] for id in ids} == {COMPLETED}
    assert chaos.sql("SELECT count(*) FROM goqueue.job")[0][0] == 0
    end_all([fleet, server.process])
    chaos.check()


def test_26_numbers_from_handlers(chaos: Chaos) -> None:
    """A delay that makes no sense is an error of the handler, and the next attempt comes."""
    fleet = chaos.worker()
    ids = [chaos.enqueue_one("puts_off", how=how, delay=delay) for how in ("snooze", "retry") for delay in DELAYS]
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    assert {chaos.row(id)["state"] for id in ids} == {COMPLETED}
    chaos.check()


def test_26_a_million_attempts(chaos: Chaos) -> None:
    """No backoff overflows: the delay is at its cap."""
    ids = {kind: chaos.enqueue_one(kind, failures=HUGE) for kind in ("flaky", "flaky_with_a_huge_backoff")}
    chaos.sql("UPDATE goqueue.job SET attempt = %s, max_attempts = %s", HUGE - 1, HUGE + 1)
    fleet = chaos.worker()
    chaos.wait(lambda: chaos.is_final(ids["flaky"]), "the attempt after a million works")
    huge = ids["flaky_with_a_huge_backoff"]
    chaos.wait(lambda: chaos.row(huge)["attempt"] == HUGE and chaos.row(huge)["state"] == 0, "it waits")
    assert fleet.stop() == 0, fleet.output
    assert chaos.row(ids["flaky"])["state"] == COMPLETED
    assert chaos.row(ids["flaky"])["attempt"] == HUGE + 1
    (days,) = chaos.sql("SELECT extract(day FROM run_at - now())::int FROM goqueue.job WHERE id = %s", huge)[0]
    assert 1_000 < days <= 3_661, "between half of ten years and ten years, the longest delay there is"
    chaos.check(open=[huge], edited=ids.values())


def test_27_arguments_of_another_release(chaos: Chaos) -> None:
    """Renamed, retyped and undecodable ones: a typed error, backoff, a dead letter; the worker lives."""
    cases: dict[str, dict[str, object]] = {
        "renamed": {"name": "x"},
        "retyped": {"amount": "many"},
        "missing": {},
        "too many": {"amount": 1, "more": 2},
        "too large": {"amount": 2**80},
    }
    ids = {case: chaos.enqueue_one("changed", options={"max_attempts": 3}, **args) for case, args in cases.items()}
    for case, text in {
        "a list": "[1]",
        "a number": "1",
        "null": "null",
        "twice": '{"amount": 1, "amount": "x"}',
    }.items():
        ids[case] = chaos.enqueue_one("changed", options={"max_attempts": 3}, amount=1)
        chaos.sql("UPDATE goqueue.job SET args = %s::json WHERE id = %s", text, ids[case])
    fleet = chaos.worker(GOQUEUE_TEST_RELEASE="next")
    ids["right"] = chaos.enqueue_one("changed", amount=7)
    chaos.settle()
    others = chaos.enqueue("work", 5)
    chaos.settle()
    assert fleet.stop() == 0, fleet.output
    assert all(chaos.row(id)["state"] == COMPLETED for id in [*others, ids.pop("right")])
    for case, id in ids.items():
        row = chaos.row(id)
        assert (row["state"], row["attempt"], row["crashes"]) == (DEAD, 3, 0), (case, row)
        assert {error["type"] for error in row["errors"]} == {"goqueue.model.errors.InvalidArguments"}, (case, row["errors"])
        assert not chaos.ledger.find("start", id=id), "the handler never sees them"
        first, second = (move.step.at for move in chaos.moves(id) if move.kind == "retry")
        assert first < second
    assert len(chaos.sql("SELECT DISTINCT before ->> 'worker_id' FROM chaos.trail WHERE before ->> 'state' = '1'")) == 1
    chaos.check(edited=ids.values())


def test_27_an_unknown_kind_waits(chaos: Chaos) -> None:
    """A worker of the release before snoozes it: no attempt is burnt, and the release that knows it runs it."""
    old = chaos.worker()
    id = chaos.enqueue_one("added", options={"max_attempts": 1})
    chaos.wait(lambda: chaos.story(id).count("hand_back") >= 3, "it is put off again and again")
    others = chaos.enqueue("work", 5)
    chaos.settle(besides=[id])
    new = chaos.worker(GOQUEUE_TEST_RELEASE="next")
    chaos.settle()
    end_all([old, new])
    row = chaos.row(id)
    assert (row["state"], row["attempt"], row["errors"]) == (COMPLETED, 1, None), row
    assert len(others) == 5
    chaos.check()
