"""Make the sync code from the async code: one is written, the other generated, committed and checked for drift.

Two steps: the keywords ``async`` and ``await`` go (found by the tokenizer, so never inside a text), then whole words
are replaced everywhere, also in docstrings. Ruff sorts the imports and lays the text out again. A rule that replaces
nothing is an error: it is left over from code that has gone.

`python -m scripts.unasync` writes, `--check` prints what differs. `scripts/generate.py` runs it with the rest.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Generated from {source} by scripts/unasync.py: change that and run `make generate`.\n"
HEADER_START = "# Generated from "


@dataclass(frozen=True)
class Pair:
    """A file or a directory (all its ``*.py``), what is made of it, and the words that only it has."""

    source: str
    target: str
    words: Mapping[str, str] = field(default_factory=dict)
    by_hand: tuple[str, ...] = ()
    """Files that both sides have and that are written twice on purpose: the primitives that really differ."""


PAIRS = (
    Pair("src/goqueue/store/jobs_async.py", "src/goqueue/store/jobs_sync.py"),
    Pair("src/goqueue/client/_async", "src/goqueue/client/_sync", by_hand=("primitives.py",)),
    Pair(
        "tests/unit/client/_async",
        "tests/unit/client/_sync",
        {
            "goqueue.store.memory.store": "goqueue.store.memory.sync",
            "MemoryStore": "SyncMemoryStore",
            "aclose": "close",
            "anext": "next",
        },
        by_hand=("support.py",),
    ),
    Pair(
        "src/goqueue/store/postgres/_async",
        "src/goqueue/store/postgres/_sync",
        {
            "AsyncConnection": "Connection",
            "AsyncConnectionPool": "ConnectionPool",
            "AsyncDatabase": "Database",
            "AsyncDeadlineConnection": "DeadlineConnection",
            "AsyncPostgresJobs": "PostgresJobs",
            "AsyncRawCursor": "RawCursor",
            "async_after": "after",
            "kinds_async": "kinds_sync",
        },
    ),
)

WORDS = {
    "_async": "_sync",
    "AsyncBulk": "Bulk",
    "jobs_async": "jobs_sync",
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "AsyncJob": "Job",
    "AsyncJobPage": "JobPage",
    "AsyncJobStore": "JobStore",
    "AsyncTransactions": "Transactions",
    "AsyncWaits": "Waits",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
"""For every pair. Names of the house follow one rule: ``AsyncX`` becomes ``X``."""


class UnasyncError(Exception):
    """The rules and the sources do not fit each other."""


def files() -> dict[str, str]:
    """Return the generated files as {path relative to the root: text}."""
    generated: dict[str, str] = {}
    unused = set(WORDS)
    for pair in PAIRS:
        if not (ROOT / pair.source).exists():
            continue
        pair_unused = set(pair.words)
        for source, target in _members(pair):
            text, used = sync_text((ROOT / source).read_text("utf-8"), {**WORDS, **pair.words})
            unused -= used
            pair_unused -= used
            generated[target] = _laid_out(HEADER.format(source=source) + text, target)
        if pair_unused:
            raise UnasyncError(f"rules that replace nothing in {pair.source}: {', '.join(sorted(pair_unused))}")
        _refuse_leftovers(pair, generated)
    if unused:
        raise UnasyncError(f"rules that replace nothing: {', '.join(sorted(unused))}")
    return generated


def sync_text(text: str, words: Mapping[str, str]) -> tuple[str, set[str]]:
    """Return the sync version of Python source, and which of the words were replaced."""
    used: set[str] = set()

    def replaced(match: re.Match[str]) -> str:
        used.add(match[0])
        return words[match[0]]

    # The longest first, so that no word can hide another one that begins with it.
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(rf"\b(?:{pattern})\b", replaced, _without_keywords(text)), used


def _without_keywords(text: str) -> str:
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token in reversed(tokens):  # from the end: what comes earlier keeps its place
        if token.type == tokenize.NAME and token.string in ("async", "await"):
            row, start = token.start
            line = lines[row - 1]
            rest = line[token.end[1] :].lstrip(" ")
            lines[row - 1] = line[:start] + rest
        elif token.type == tokenize.STRING and re.match(r"[rR]?[fF]", token.string) and "await" in token.string:
            # Before Python 3.12 the tokenizer does not look into an f-string.
            raise UnasyncError(f"line {token.start[0]}: await inside an f-string; give its value a name first")
    return "".join(lines)


def _members(pair: Pair) -> Iterator[tuple[str, str]]:
    if pair.source.endswith(".py"):
        yield pair.source, pair.target
        return
    for path in sorted((ROOT / pair.source).glob("*.py")):
        if path.name not in pair.by_hand:
            yield f"{pair.source}/{path.name}", f"{pair.target}/{path.name}"


def _refuse_leftovers(pair: Pair, generated: Mapping[str, str]) -> None:
    """A generated file whose source has gone would live on for ever."""
    target = ROOT / pair.target
    for path in sorted(target.glob("*.py")) if target.is_dir() else ():
        name = f"{pair.target}/{path.name}"
        if name not in generated and path.read_text("utf-8").startswith(HEADER_START):
            raise UnasyncError(f"{name} has lost its source: delete it")


def _laid_out(text: str, name: str) -> str:
    # Said here because Ruff would look which modules exist, and some are generated only now.
    ours = ["--config", "lint.isort.known-first-party = ['goqueue', 'scripts', 'tests']"]
    for arguments in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, *ours, "--no-cache", "--stdin-filename", name, "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, timeout=60)
        if done.returncode != 0:
            raise UnasyncError(f"{name}: ruff {arguments[0]} says: {done.stderr or done.stdout}")
        text = done.stdout
    return text


def main(arguments: list[str]) -> int:
    """Write what differs; with `--check` only name it and fail."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m scripts.unasync [--check]", file=sys.stderr)
        return 2
    changed = {
        name: text
        for name, text in files().items()
        if not (ROOT / name).exists() or (ROOT / name).read_text("utf-8") != text
    }
    for name, text in changed.items():
        print(f"{'out of date' if arguments else 'written'}: {name}")
        if not arguments:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, "utf-8")
    return 1 if arguments and changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
