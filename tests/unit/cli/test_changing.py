"""Dead letters at the command line: seen, retried one by one, by filter, at a rate, with other arguments."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from goqueue.model.job import ErrorInfo, NewJob
from goqueue.model.lease import Beat, WorkerInfo
from goqueue.model.outcome import Retry, Snooze
from goqueue.store.memory import working
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.prepare import new_id
from tests.unit.cli.doors import Desk
from tests.unit.client.hand import WORKER

SEND: NewJob[object] = NewJob(kind="send", args=b'{"to":"ada"}')
OTHER: NewJob[object] = NewJob(kind="other")
APP = """
from goqueue import GoQueue
app = GoQueue()

@app.task
async def send(to: str, copies: int = 1) -> None: ...
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody sits at the terminal, and answers what the test puts in here."""
    answers: list[str] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("typer.confirm", lambda text, **_: _confirm(text, answers))
    return answers


def _confirm(text: str, answers: list[str]) -> bool:
    import typer

    answer = answers.pop(0)
    answers.append(text)
    if answer != "y":
        raise typer.Abort
    return True


# -- seen -------------------------------------------------------------------------------------------


def test_the_list_of_dead_letters_says_why(desk: Desk) -> None:
    (crashed,) = desk.kill(SEND, error="goqueue.WorkerCrashed", message="pid 7\nsignal 9", reason="crashed")
    (failed,) = desk.kill(SEND)
    desk.client.enqueue(OTHER)
    rows = list(csv.DictReader(io.StringIO(desk("jobs", "list", "--state", "dead", "-o", "csv"))))
    assert [(row["id"], row["reason"], row["error"]) for row in rows] == [
        (failed, "attempts", "builtins.ValueError: no"),
        (crashed, "crashed", "goqueue.WorkerCrashed: pid 7 signal 9"),
    ]
    shown = desk("jobs", "list", "--state", "dead")
    assert shown.split()[:4] == ["id", "kind", "when", "queue"], "the state was asked for, and is no news"
    assert "reason" in shown
    assert "crashed" in shown
    assert "reason" not in desk("jobs", "list", "--state", "ready"), "no column for what is not said"
    assert crashed in desk("jobs", "list", "--reason", "crashed")
    assert failed not in desk("jobs", "list", "--reason", "crashed")
    assert failed in desk("jobs", "list", "--error", "ValueError", "--created-after", "1h")
    assert desk("jobs", "list", "--created-before", "1h") == ""


@pytest.mark.parametrize(
    "width, dead, wider, all_states",
    [
        (80, "id kind when error", 80, "id state kind when reason"),
        # Each some characters from where it changes: "now" may be "2 s ago" by then.
        (121, "id kind when queue reason error", 126, "id state kind when reason error"),
        (
            170,
            "id kind when queue tries reason error ran created",
            170,
            "id state kind when queue tries reason error ran created",
        ),
    ],
)
def test_the_table_fits_and_leaves_out_what_matters_least(
    desk: Desk, width: int, dead: str, wider: int, all_states: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goqueue.cli.output.PIPE_WIDTH", width)
    (id,) = desk.kill(NewJob(kind="a_rather_long_kind_of_job"), message="long " * 50)
    later = desk.client.enqueue(NewJob(kind="other", delay_s=7200)).id
    lines = desk("jobs", "list", "--state", "dead").splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split() == dead.split()
    assert lines[2].startswith(f"{id}  a_rather_lo")
    assert re.search(r" now | s ago ", lines[2])
    assert "ValueError" in lines[2]
    monkeypatch.setattr("goqueue.cli.output.PIPE_WIDTH", wider)
    lines = desk("jobs", "list").splitlines()
    assert max(map(len, lines)) <= wider
    assert lines[0].split() == all_states.split()
    assert lines[2].startswith(f"{later}  scheduled  other")
    assert " in 2 h" in lines[2]


def test_the_list_says_that_there_are_more_and_how_to_see_them(desk: Desk) -> None:
    ids = [desk.client.enqueue(SEND).id for _ in range(5)][::-1]
    first = desk("jobs", "list", "-n", "2")
    assert desk.err == f"(2 jobs; there are more: --limit, or --cursor {ids[1]})\n"
    second = desk("jobs", "list", "-n", "3", "--cursor", ids[1])
    assert desk.err == ""
    assert [line.split()[0] for line in (first + second).splitlines() if line.startswith("0")] == ids
    desk("jobs", "list", "-n", "5", "-o", "csv")
    assert desk.err == ""
    desk("jobs", "list", "-n", "4", "-o", "json")
    assert "there are more" in desk.err
    desk("jobs", "list", "--cursor", "x", code=2)
    assert "/page_token" in desk.err


def test_whether_there_are_more_is_not_looked_for_without_end(desk: Desk) -> None:
    """Reasons are looked at by the client: somewhere in a long history there may be another job that fits."""
    (wanted,) = desk.kill(SEND, reason="crashed")
    desk.kill(*[SEND] * 250)
    (newest,) = desk.kill(SEND, reason="crashed")
    desk("jobs", "list", "-n", "1", "--reason", "crashed")
    assert desk.err == f"(1 job; there may be more: --limit, or --cursor {newest})\n"
    assert wanted in desk("jobs", "list", "-n", "1", "--reason", "crashed", "--cursor", newest)


def test_dead_letters_by_when_they_died(desk: Desk) -> None:
    (old,) = desk.kill(SEND)
    desk.doors.memory.time_travel(1800)
    (new,) = desk.kill(SEND)
    desk.client.enqueue(OTHER)
    since = desk.client.get(new).record().finished_at
    assert since is not None
    late = f"{since:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert new in desk("jobs", "list", "--finished-after", late)
    assert desk("jobs", "list", "--finished-after", late).count("send") == 1
    assert desk("jobs", "list", "--finished-before", late, "-o", "csv").count("\n") == 2
    assert desk("jobs", "delete", "--state", "dead", "--finished-before", late, "--yes") == "deleted 1 of 1\n"
    assert old not in desk.states()
    assert desk("jobs", "retry", "--finished-before", late, "--yes") == "retried 0 of 0\n"
    assert desk("jobs", "retry", "--finished-after", late, "--yes") == "retried 1 of 1\n"
    assert desk.states()[new] == "ready"


def test_a_job_is_shown_with_every_attempt(desk: Desk) -> None:
    from goqueue.model.outcome import Dead

    job = desk.client.enqueue(
        SEND.options(timeout_s=5, deadline_s=3600, schedule_to_start_s=60).options(max_attempts=2)
    )
    desk.hand.do(Retry(0.0, ErrorInfo("E1", "first", "Traceback 1\nE1: first")))
    desk.hand.do(Dead(ErrorInfo("E2", "second"), "attempts"))
    shown = desk("jobs", "show", job.id)
    assert "attempts (every attempt failed)" in shown
    assert "2 of 2" in shown
    attempts = [line for line in shown.splitlines() if line.startswith("attempt ")]
    assert [line.split()[1] for line in attempts if line.split()[1].isdigit() and "UTC" in line] == ["1", "2"]
    assert "Traceback 1" in shown
    assert "second" in shown
    assert "start within" in shown
    assert "deadline" in shown
    record = json.loads(desk("jobs", "show", job.id, "-o", "json"))
    assert [error["type"] for error in record["errors"]] == ["E1", "E2"]
    assert record["schedule_to_start_s"] == 60


def fields(shown: str) -> dict[str, str]:
    """Names and values of `jobs show`, down to the first empty line."""
    parts = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in shown.split("\n\n")[0].splitlines()]
    return {part[0]: part[1] for part in parts if len(part) == 2}


def test_what_an_operator_asks_of_a_running_job(desk: Desk) -> None:
    job = desk.client.enqueue(SEND.options(timeout_s=5, tags=["vip"], unique="k", meta={"trace": "t"}))
    desk.hand.take()
    told = fields(desk("jobs", "show", job.id))
    assert (told["state"], told["timeout"], told["tags"], told["unique key"]) == ("running", "5.0 s", "vip", "k")
    assert "last heard of" in told["run by"]
    assert WORKER in told["run by"]
    assert told["running for"].endswith("s")
    assert "UTC" in told["started"]
    assert "waits because" not in told
    with desk.doors.memory._lock:
        desk.doors.memory.workers.clear()
    assert "gone" in fields(desk("jobs", "show", job.id))["run by"]


def test_what_an_operator_asks_of_a_waiting_job(desk: Desk) -> None:
    def shown(id: str) -> dict[str, str]:
        return fields(desk("jobs", "show", id))

    memory = desk.doors.memory
    job = desk.client.enqueue(SEND)
    assert shown(job.id)["waits because"] == "no worker takes from queue default"
    info = WorkerInfo(id=WORKER, queues=("default",), kinds=("other",))
    with memory._lock:
        working.extend(memory, Beat(worker=info, ttl_s=3600))
    assert shown(job.id)["waits because"].endswith("has a task of kind send")
    with memory._lock:
        working.extend(memory, Beat(worker=replace(info, kinds=("send",)), ttl_s=3600))
    assert "waits because" not in shown(job.id), "its turn comes"
    asyncio.run(MemoryStore(memory).pause("default", "default", paused=True))
    assert shown(job.id)["waits because"] == "its queue default is paused"
    asyncio.run(MemoryStore(memory).pause("default", "default", paused=False))
    desk.hand.do(Retry(4000, ErrorInfo("OSError", "broken\npipe", "")))
    told = shown(job.id)
    assert (told["state"], told["last error"], told["attempt"]) == ("retrying", "OSError: broken pipe", "1 of 20")
    assert "(in 1 h)" in told["next attempt"]
    later = desk.client.enqueue(SEND)
    desk.hand.do(Snooze(7200, "the service sleeps"))
    told = shown(later.id)
    assert (told["put off"], told["attempt"]) == ("the service sleeps", "0 of 20")
    assert "(in 2 h)" in told["runs at"]


def test_a_completed_job_does_not_run_again_unasked(desk: Desk, asked: list[str]) -> None:
    (dead,) = desk.kill(SEND)
    done = desk.client.enqueue(SEND).id
    desk.hand.do()
    asked.append("n")
    desk("jobs", "retry", done, dead, code=1)
    assert asked.pop() == "run 1 completed job again, with all effects?"
    assert f"{done}  send, completed now" in desk.err
    assert desk.states() == {done: "completed", dead: "dead"}
    assert "retry changed" in desk("jobs", "retry", dead), "nobody is asked for a dead one"
    asked.append("y")
    assert "retry changed" in desk("jobs", "retry", done)
    assert desk.states() == {done: "ready", dead: "ready"}


def test_without_a_terminal_a_completed_job_wants_yes(desk: Desk) -> None:
    done = desk.client.enqueue(SEND).id
    desk.hand.do()
    desk("jobs", "retry", done, code=2)
    assert "--yes" in desk.err
    assert desk.states() == {done: "completed"}
    desk("jobs", "retry", new_id(), code=3)
    assert "retry changed" in desk("jobs", "retry", done, "--yes")


def test_the_same_error_is_told_once(desk: Desk) -> None:
    job = desk.client.enqueue(SEND)
    for text in ("first", "second", "second", "first"):
        desk.hand.do(Retry(0.0, ErrorInfo("E", text, f"Traceback\nE: {text}")))
    shown = desk("jobs", "show", job.id)
    bodies = [part.splitlines()[1:] for part in shown.split("\nattempt ")[-4:]]
    told = [line for body in bodies for line in body if line]
    assert told == ["Traceback", "E: first", "Traceback", "E: second", "the same error again", "Traceback", "E: first"]


# -- by id ------------------------------------------------------------------------------------------


def test_other_arguments(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edit_app.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    (id,) = desk.kill(SEND)
    desk("jobs", "retry", id, "--args", "[1]", code=2)
    assert "/args" in desk.err
    desk("jobs", "retry", id, "--args", "{", code=2)
    desk("jobs", "retry", id, "--args", '{"too": 1}', "--app", "edit_app:app", code=2)
    assert "/args/too" in desk.err
    assert desk.states() == {id: "dead"}, "nothing changed"
    assert "retry changed" in desk("jobs", "retry", id, "--args", '{"to": "grace"}', "--app", "edit_app:app")
    record = desk.client.get(id).record()
    assert (record.state, json.loads(bytes(record.args))) == ("ready", {"to": "grace", "copies": 1})
    desk("jobs", "retry", id, "--args", "{}", code=1)
    assert "[wrong_state]" in desk.err
    desk("jobs", "retry", new_id(), "--args", "{}", "--app", "edit_app:app", code=3)


def test_arguments_in_an_editor(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (id,) = desk.kill(SEND)
    script = tmp_path / "editor.py"

    def editor(what: str) -> None:
        script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[-1])\ntext = path.read_text()\n{what}\n")

    monkeypatch.setenv("EDITOR", f"'{sys.executable}' '{script}'")
    monkeypatch.delenv("VISUAL", raising=False)
    editor("pass")
    desk("jobs", "retry", id, "--edit", code=1)
    assert "nothing was changed" in desk.err
    editor("sys.exit(3)")
    desk("jobs", "retry", id, "--edit", code=1)
    assert "ended with 3" in desk.err
    editor("path.write_text('{')")
    desk("jobs", "retry", id, "--edit", code=2)
    assert desk.states() == {id: "dead"}
    editor("path.write_text(text.replace('ada', 'grace'))")
    assert "retry changed" in desk("jobs", "retry", id, "--edit")
    assert json.loads(bytes(desk.client.get(id).record().args)) == {"to": "grace"}
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    desk("jobs", "retry", id, "--edit", code=1)
    assert "set EDITOR" in desk.err


# -- by filter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("cancel",),
        ("delete",),
        ("retry", "ID", "--queue", "mail"),
        ("cancel", "ID", "--state", "ready"),
        ("retry", "ID", "--rate", "5"),
        ("delete", "ID", "--dry-run"),
        ("retry", "--state", "dead"),  # nobody to ask
        ("retry", "--rate", "5/s", "--yes"),
        ("retry", "--queue", "mail", "--rate", "fast", "--yes"),
        ("retry", "--created-after", "yesterday", "--yes"),
        ("retry", "--queue", "mail", "--edit"),
        ("retry", "ID", "ID", "--edit"),
        ("retry", "ID", "ID", "--args", "{}"),
        ("retry", "ID", "--edit", "--args", "{}"),
        ("retry", "--queue", "mail", "--args", "{}", "--yes"),  # of which kind?
        ("delete", "--queue", "mail", "--yes"),
        ("delete", "--state", "running", "--yes"),
    ],
    ids=" ".join,
)
def test_what_is_not_clear_is_refused_and_changes_nothing(desk: Desk, arguments: tuple[str, ...]) -> None:
    (id,) = desk.kill(SEND.options(queue="default"))
    desk("jobs", *(id if word == "ID" else word for word in arguments), code=2)
    assert desk.states() == {id: "dead"}


def test_it_shows_what_it_would_be_and_asks(desk: Desk, asked: list[str]) -> None:
    ids = desk.kill(SEND, SEND, SEND)
    (other,) = desk.kill(OTHER, error="OSError", reason="crashed")
    out = desk("jobs", "retry", "--state", "dead", "--dry-run")
    assert "would retry 4 jobs" in out
    assert [line.split() for line in out.splitlines()[2:4]] == [
        ["3", "default", "send", "dead", "attempts", "builtins.ValueError"],
        ["1", "default", "other", "dead", "crashed", "OSError"],
    ]
    assert set(desk.states().values()) == {"dead"}
    asked.append("n")
    desk("jobs", "retry", "--kind", "send", "--rate", "1/s", code=1)
    assert asked.pop() == "retry 3 jobs, over 3.0 s?"
    assert set(desk.states().values()) == {"dead"}
    asked.append("y")
    assert "retried 3 of 3\n" in desk("jobs", "retry", "--kind", "send", "--rate", "1/s")
    assert "due in" in desk.err
    states = desk.states()
    assert states[other] == "dead"
    assert all(states[id] in ("ready", "retrying") for id in ids)
    desk("jobs", "retry", "--kind", "send")
    assert "no such jobs" in desk.err


def test_a_filter_run(desk: Desk) -> None:
    desk.kill(*[SEND] * 3)
    desk.kill(OTHER, reason="crashed")
    assert desk("jobs", "retry", "--reason", "attempts", "-n", "2", "--yes") == "retried 2 of 2\n"
    assert "there are more" in desk.err
    args = ("--kind", "send", "--args", '{"to": "x"}', "--yes")
    assert desk("jobs", "retry", *args) == "retried 1 of 1\n"
    assert b'{"to":"x"}' in {bytes(job.known.args) for job in desk.client.iterate() if job.known is not None}
    assert desk("jobs", "delete", "--state", "dead", "--reason", "crashed", "--yes") == "deleted 1 of 1\n"
    assert desk("jobs", "cancel", "--kind", "send", "--reason", "enough", "--yes") == "cancelled 3 of 3\n"
    assert {job.known.reason for job in desk.client.iterate() if job.known is not None} == {"enough"}


def test_what_was_not_possible_is_said_and_gives_the_exit_code(desk: Desk) -> None:
    desk.kill(SEND.options(unique="k"), SEND)
    desk.client.enqueue(SEND.options(unique="k"))
    assert desk("jobs", "retry", "--state", "dead", "--yes", code=1) == "retried 1 of 2; not: 1 key_held\n"


def test_running_jobs_are_asked_to_stop(desk: Desk) -> None:
    desk.client.enqueue_many([SEND, SEND])
    desk.hand.take()
    assert desk("jobs", "cancel", "--kind", "send", "--yes") == "cancelled 1 of 2\n"
    assert "1 that run were asked to stop" in desk.err


# -- enqueue ----------------------------------------------------------------------------------------


def test_limits_and_keys_of_a_new_job(desk: Desk) -> None:
    key = ("--unique", "k", "--until-started")
    id = desk("enqueue", "send", "--deadline", "3600", "--start-within", "60", "--timeout", "5", *key).strip()
    record = desk.client.get(id).record()
    assert (record.timeout_s, record.schedule_to_start_s, record.unique_key) == (5, 60, "k")
    assert record.deadline_at is not None
    assert round((record.deadline_at - record.created_at).total_seconds()) == 3600
    desk("enqueue", "send", "--unique", "k", "--on-conflict", "reject", code=1)
    assert "[unique_conflict]" in desk.err
    desk.hand.take()
    assert desk("enqueue", "send", *key).strip() != id, "the key is free: it has started"
    for wrong in (("--deadline", "0"), ("--start-within", "-1"), ("--until-started",), ("--on-conflict", "reject")):
        desk("enqueue", "send", *wrong, code=2)
