"""Faults 26 and 27: numbers at the edge, and arguments that a release no longer understands."""

from __future__ import annotations

import json

from tests.chaos.harness import Chaos, Server, end_all

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


def test_26_numbers_at_the_edge(chaos: Chaos) -> None:
    """From outside: refused with 4xx or taken as they are, never a 5xx. From handlers: an error of theirs. In backoffs:
    at the cap. And no worker dies of one."""
    counted = {kind: chaos.enqueue_one(kind, failures=HUGE) for kind in ("flaky", "flaky_with_a_huge_backoff")}
    chaos.sql("UPDATE goqueue.job SET attempt = %s, max_attempts = %s", HUGE - 1, HUGE + 1)
    server, fleet = chaos.server(), chaos.worker()
    from_handlers = [
        chaos.enqueue_one("puts_off", how=how, delay=delay) for how in ("snooze", "retry") for delay in DELAYS
    ]
    refused_or_taken(chaos, server)
    huge = counted["flaky_with_a_huge_backoff"]
    chaos.settle(besides=[huge])
    chaos.wait(lambda: chaos.row(huge)["attempt"] == HUGE and chaos.row(huge)["state"] == 0, "it waits")
    end_all([fleet, server.process])
    assert {chaos.row(id)["state"] for id in from_handlers} == {COMPLETED}
    row = chaos.row(counted["flaky"])
    assert (row["state"], row["attempt"]) == (COMPLETED, HUGE + 1)
    (days,) = chaos.sql("SELECT extract(day FROM run_at - now())::int FROM goqueue.job WHERE id = %s", huge)[0]
    assert 1_000 < days <= 3_661, "between half of ten years and ten years, the longest delay there is"
    assert len({entry.pid for entry in chaos.ledger.find("start")}) == 1, "no process has died of it"
    chaos.check(open=[huge], edited=counted.values())


def refused_or_taken(chaos: Chaos, server: Server) -> None:
    for field in BAD:
        answer = server.http.post("/v1/jobs", content=f'{{"kind": "work", "args": {{}}, {field}}}')
        assert answer.status_code in (400, 422), (field, answer.status_code, answer.text)
        assert field.split('"')[1] in answer.text or "NaN" in field or "1e999" in field, (field, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    jobs = [json.loads(f'{{"kind": "work", "args": {{}}, {field}}}') for field in EDGE]
    answer = server.http.post("/v1/jobs/batch", json={"jobs": jobs})
    assert answer.status_code == 200, answer.text
    ids = [str(result["job"]["id"]) for result in answer.json()["results"]]
    for id in ids:
        chaos.ledger.write("acknowledged", id=id)
    assert len(ids) == len(EDGE)


def test_27_arguments_and_kinds_of_another_release(chaos: Chaos) -> None:
    """Renamed, retyped and undecodable arguments: a typed error, backoff, a dead letter; the worker lives.

    An unknown kind waits and burns no attempt, and a worker that knows it runs it.
    """
    cases: dict[str, dict[str, object]] = {
        "renamed": {"name": "x"},
        "retyped": {"amount": "many"},
        "missing": {},
        "too many": {"amount": 1, "more": 2},
        "a fraction": {"amount": 1.5},
    }
    options = {"max_attempts": 3}
    ids = {case: chaos.enqueue_one("changed", options=options, **args) for case, args in cases.items()}
    for case, text in WRITTEN_BY_HAND.items():
        ids[case] = chaos.enqueue_one("changed", options=options, amount=1)
        chaos.sql("UPDATE goqueue.job SET args = %s::json WHERE id = %s", text, ids[case])
    right = chaos.enqueue_one("changed", amount=7)
    unknown = chaos.enqueue_one("retired", options={"max_attempts": 1})
    new = chaos.worker(GOQUEUE_TEST_RELEASE="next")
    chaos.settle(besides=[unknown])
    chaos.wait(lambda: chaos.story(unknown).count("hand_back") >= 3, "it is put off again and again")
    assert chaos.row(unknown)["errors"] is None
    old = chaos.worker()
    others = chaos.enqueue("work", 5)
    chaos.settle()
    end_all([new, old])
    for id in (*others, right, unknown):
        assert (chaos.row(id)["state"], chaos.row(id)["attempt"]) == (COMPLETED, 1)
    for case, id in ids.items():
        row = chaos.row(id)
        assert (row["state"], row["attempt"], row["crashes"]) == (DEAD, 3, 0), (case, row)
        assert {error["type"] for error in row["errors"]} == {"goqueue.model.errors.InvalidArguments"}, (case, row)
        assert not chaos.ledger.find("start", id=id), "the handler never sees them"
        first, second = (move.step.at for move in chaos.moves(id) if move.kind == "retry")
        assert first < second
    assert "restart" not in new.output
    chaos.check(edited=ids.values())
