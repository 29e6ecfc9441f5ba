"""The pages on clients and frameworks: rows name tests that there are, blocks run, or are parts of examples that do."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from goqueue import configuration
from goqueue.model import errors
from goqueue.model.errors import GoQueueError
from goqueue.testing import running_worker

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ROOT / "docs" / "guides"
LIVES = (GUIDES / "sync_and_async.md").read_text("utf-8")
FRAMEWORKS = (GUIDES / "frameworks.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_each_row_is_a_test() -> None:
    table = LIVES[LIVES.index("| where |") : LIVES.index("## Inside")]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests" / "acceptance").glob("test_*.py"))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert re.search(rf"^(async )?def {name}\(", sources, re.MULTILINE), name


def test_the_errors_have_these_codes() -> None:
    table = LIVES[LIVES.index("| what |") :]
    rows = re.findall(r"^\| .* \| `(\w+)` \| `(\w+)` \|$", table, re.MULTILINE)
    assert len(rows) == 9
    for name, code in rows:
        kind: type[GoQueueError] = getattr(errors, name)
        assert kind.code == code


def test_the_blocks_on_clients_run(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOQUEUE_URL", database_url)
    configuration.configuration.cache_clear()
    texts = blocks(LIVES, "python")
    assert len(texts) == 4
    assert LIVES.count("```") == 2 * len(texts)
    names: dict[str, Any] = {"__name__": "lives"}
    exec(texts[0], names)  # noqa: S102  the page's own text
    with running_worker(names["app"], database_url):
        for text in texts[1:]:
            exec(text, names)  # noqa: S102  the page's own text
    said = [line.rsplit("# ", 1)[1] for text in texts for line in text.splitlines() if line.startswith("print(")]
    printed = [line for line in capsys.readouterr().out.splitlines() if "[info " not in line]  # not the worker's log
    assert printed == said == ["42", "3", "2 4"]
    names["client"].close()
    asyncio.run(names["queue"].close())
    configuration.configuration.cache_clear()


@pytest.mark.parametrize("block", blocks(FRAMEWORKS, "python"))
def test_the_blocks_on_frameworks_are_parts_of_examples(block: str) -> None:
    first, _, text = block.partition("\n")
    path = ROOT / first.removeprefix("# ")
    source = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        source = "\n".join("".join(cell["source"]) for cell in json.loads(source)["cells"])
    at = 0
    for part in text.split("...\n"):
        found = source.find(part.rstrip("\n"), at)
        assert found >= 0, part
        at = found


def test_commands_are_those_that_the_examples_name() -> None:
    told = (ROOT / "examples" / "django_shop" / "README.md").read_text("utf-8")
    told += (ROOT / "examples" / "script.py").read_text("utf-8")
    commands = [line for block in blocks(FRAMEWORKS, "console") for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        assert command.removeprefix("$ ") in told, command
