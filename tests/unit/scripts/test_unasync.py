"""The sync code is what the async code says, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import unasync
from scripts.unasync import Pair, UnasyncError, sync_text

WORDS = {"AsyncClient": "Client", "AsyncJob": "Job", "_async": "_sync"}


@pytest.mark.parametrize(
    "source, wanted",
    [
        ("async def f() -> int:\n    return await g()\n", "def f() -> int:\n    return g()\n"),
        ("async with a as b:\n    async for c in d:\n        pass\n", "with a as b:\n    for c in d:\n        pass\n"),
        ("x = [await f(y) async for y in z]\n", "x = [f(y) for y in z]\n"),
        ("x = await (a if b else c)\n", "x = (a if b else c)\n"),
        ("x = f(\n    await a,\n    await b,\n)\n", "x = f(\n    a,\n    b,\n)\n"),
        ('x = "async and await stay"  # await too\n', 'x = "async and await stay"  # await too\n'),
        ('"""Makes `AsyncClient`."""\n', '"""Makes `Client`."""\n'),
        ("from p._async.m import AsyncJob, AsyncJobs\n", "from p._sync.m import Job, AsyncJobs\n"),
        ("is_async = my_async = 1\n", "is_async = my_async = 1\n"),
    ],
)
def test_keywords_go_and_whole_words_are_replaced(source: str, wanted: str) -> None:
    assert sync_text(source, WORDS)[0] == wanted


def test_sync_text_stays_as_it_is() -> None:
    once, _ = sync_text("async def f(c: AsyncClient) -> None:\n    await c.x()\n", WORDS)
    assert sync_text(once, WORDS) == (once, set())


def test_await_in_an_f_string_never_reaches_the_sync_code() -> None:
    try:
        text, _ = sync_text('x = f"{await y}"\n', {"a": "b"})
    except UnasyncError:
        return  # before Python 3.12 it is refused
    assert text == 'x = f"{y}"\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.py").write_text("async def f() -> None:\n    await g(AsyncJob)\n")
    monkeypatch.setattr(unasync, "ROOT", tmp_path)
    monkeypatch.setattr(unasync, "PAIRS", (Pair("a", "b"), Pair("not_there", "c", {"x": "y"})))
    monkeypatch.setattr(unasync, "WORDS", {"AsyncJob": "Job"})
    return tmp_path


def test_files_are_generated_under_a_header_and_stay_as_they_are(root: Path) -> None:
    assert unasync.main(["--check"]) == 1
    assert not (root / "b").exists()
    assert unasync.main([]) == 0
    text = (root / "b" / "one.py").read_text()
    assert text == unasync.HEADER.format(source="a/one.py") + "def f() -> None:\n    g(Job)\n"
    assert unasync.main(["--check"]) == 0


def test_a_rule_that_replaces_nothing_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unasync, "WORDS", {"AsyncJob": "Job", "AsyncGone": "Gone"})
    with pytest.raises(UnasyncError, match="AsyncGone"):
        unasync.files()
    monkeypatch.setattr(unasync, "WORDS", {"AsyncJob": "Job"})
    monkeypatch.setattr(unasync, "PAIRS", (Pair("a", "b", {"AsyncElsewhere": "Elsewhere"}),))
    with pytest.raises(UnasyncError, match=r"in a: AsyncElsewhere"):
        unasync.files()


def test_a_generated_file_without_a_source_is_an_error(root: Path) -> None:
    unasync.main([])
    (root / "a" / "one.py").rename(root / "a" / "two.py")
    with pytest.raises(UnasyncError, match=r"b/one\.py has lost its source"):
        unasync.files()


def test_files_written_by_hand_on_both_sides_are_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a" / "own.py").write_text("async def mine() -> None: ...\n")
    (root / "b").mkdir()
    (root / "b" / "own.py").write_text("def mine() -> None: ...\n")
    monkeypatch.setattr(unasync, "PAIRS", (Pair("a", "b", by_hand=("own.py",)),))
    assert set(unasync.files()) == {"b/one.py"}
