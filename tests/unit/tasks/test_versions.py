"""Versions of arguments, and kinds that a task had before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from goqueue.model.errors import DefinitionError, DuplicateTask, InvalidArguments, InvalidJob, UnknownTask
from goqueue.model.job import VERSION_KEY, NewJob
from goqueue.tasks.app import GoQueue
from goqueue.tasks.prepare import prepare
from goqueue.tasks.versions import version_in

app = GoQueue()


@app.task(version=3, aliases=["send_email", "mail"], meta={"team": "x"})
def send(to: list[str], subject: str = "") -> None:
    """Take a list, since version 3."""


@send.upcast(from_version=1)
def _(args: dict[str, Any]) -> dict[str, Any]:
    args["to"] = args.pop("address")
    return args


@send.upcast(from_version=2)
def _to_list(args: dict[str, Any]) -> dict[str, Any]:
    return {**args, "to": [args["to"]]}


def meta(version: str) -> bytes:
    return msgspec.json.encode({VERSION_KEY: version, "a": "b"})


def test_old_arguments_are_lifted_in_turn() -> None:
    assert send.decode(send.lift(b'{"address":"a"}', None)) == {"to": ["a"], "subject": ""}
    assert send.decode(send.lift(b'{"to":"a"}', meta("2"))) == {"to": ["a"], "subject": ""}
    assert send.lift(b'{"to":["a"]}', meta("3")) == b'{"to":["a"]}'
    with pytest.raises(InvalidArguments, match="does not know"):
        send.lift(b"{}", meta("4"))


def test_what_an_upcaster_raises_is_told() -> None:
    with pytest.raises(InvalidArguments, match=r"from version 1 failed: KeyError: 'address'"):
        send.lift(b"{}", None)
    with pytest.raises(InvalidArguments, match="takes and returns a dict"):
        send.lift(b"[]", None)


def test_the_version_goes_with_the_job_whatever_its_meta() -> None:
    assert send.job(["a"]).meta == {"team": "x", VERSION_KEY: "3"}
    assert send.job(["a"]).options(meta={"b": "c"}).meta == {"b": "c", VERSION_KEY: "3"}
    assert app.task(kind="plain")(lambda: None).job().meta == {}


@pytest.mark.parametrize("version", ["", "0", "x", "1.0", "-1", "1001", "99999", "٣", "01"])
def test_a_version_that_is_none_is_refused_and_newer_than_any(version: str) -> None:
    job: NewJob[object] = NewJob(kind="k", meta={VERSION_KEY: version})
    with pytest.raises(InvalidJob) as refused:
        prepare(job)
    assert refused.value.pointer == "/meta/goqueue.version"
    assert version_in(meta(version)) > 1_000


def test_the_version_of_a_job_without_one_is_1() -> None:
    metas = (None, b'{"a":"b"}', b'{"a":"\\"goqueue.version\\""}', meta("1"), meta("7"))
    assert [version_in(raw) for raw in metas] == [1, 1, 1, 1, 7]


def test_versions_that_cannot_be_are_refused() -> None:
    other = GoQueue()
    for version in (0, 1_001, True, "2"):
        with pytest.raises(DefinitionError, match="version must be"):
            other.task(kind="k", version=version)(lambda: None)  # type: ignore[arg-type]

    @other.task(version=3)
    def k() -> None: ...

    for from_version in (0, 3, 4):
        with pytest.raises(DefinitionError, match="an upcaster goes from"):
            k.upcast(from_version=from_version)(lambda args: args)
    k.upcast(from_version=1)(lambda args: args)
    with pytest.raises(DefinitionError, match="two upcasters"):
        k.upcast(from_version=1)(lambda args: args)
    with pytest.raises(DefinitionError, match=r"no upcaster from version 2.*@k\.upcast\(from_version=2\)"):
        other.check()
    with pytest.raises(InvalidArguments, match="no upcaster"):
        k.lift(b"{}", None)


def test_a_task_runs_its_old_kinds() -> None:
    assert app.runs["mail"] is app.runs["send_email"] is app.find("mail") is app.tasks["send"]
    assert {"send", "send_email", "mail"} <= app.kinds
    assert "mail" not in app.tasks
    with pytest.raises(UnknownTask):
        app.find("male")


def test_old_kinds_clash_like_others() -> None:
    def one() -> None: ...

    for kind, aliases in (("mail", ()), ("new", ("send",)), ("new", ("mail",)), ("new", ("x", "x"))):
        other = GoQueue()
        other.include(app)
        if aliases == ("x", "x"):
            other.task(kind="new", aliases=aliases)(one)  # twice the same is no clash
            continue
        with pytest.raises(DuplicateTask):
            other.task(kind=kind, aliases=aliases)(one)
        assert other.kinds == app.kinds, "nothing of it was added"
    first, second = GoQueue(), GoQueue()
    first.task(kind="a", aliases=["b"])(one)
    second.task(kind="b")(one)
    with pytest.raises(DuplicateTask):
        first.include(second)
    with pytest.raises(DefinitionError, match="kind"):
        GoQueue().task(kind="a", aliases=[" b"])(one)
