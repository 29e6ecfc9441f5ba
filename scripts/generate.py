"""Everything in the repository that is generated, in one list (`make generate`).

Generated files are committed, and `--check` (part of `make check`) fails with a diff when one is
not what its generator writes. To add one, write a function without arguments that returns
`{path relative to the root: text}`, and put it on `GENERATORS`; import what it needs inside the
function, so that one broken generator does not take the others down:

    def openapi() -> Files:
        from goqueue.api.openapi import document
        return {"contracts/openapi.json": document()}

A generator never writes by itself, and reads neither the clock nor the machine.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent

Files: TypeAlias = Mapping[str, str]
Generator: TypeAlias = Callable[[], Files]


def sync_code() -> Files:
    """The sync half of clients and stores, from the async half."""
    from scripts.unasync import files

    return files()


def openapi() -> Files:
    """The contract of the HTTP API, from the table of operations."""
    from goqueue.api.openapi import document

    return {"contracts/openapi.json": document()}


def state_machine() -> Files:
    """The page on a job's life, from the table of transitions."""
    from scripts.state_machine import document

    return document()


def schema() -> Files:
    """The schema that the migrations lead to, from a database that they were applied to."""
    import asyncio

    import psycopg

    from goqueue.wiring import migrate
    from scripts.schema import snapshot
    from tests.support.database import running_server, temporary_database

    with running_server() as server, temporary_database(server) as url:
        asyncio.run(migrate(url))
        with psycopg.connect(url, autocommit=True) as connection:
            return {"src/goqueue/store/postgres/schema.sql": snapshot(connection)}


def reference() -> Files:
    """The reference of the library, from signatures and docstrings."""
    from scripts.reference import document

    return document(ROOT)


GENERATORS: list[Generator] = [sync_code, openapi, state_machine, schema, reference]


def main(arguments: list[str]) -> int:
    """Write what differs; with `--check` write nothing, print the diff and fail."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m scripts.generate [--check]", file=sys.stderr)
        return 2
    check = bool(arguments)
    changed = 0
    for generator in GENERATORS:
        for name, text in generator().items():
            path = ROOT / name
            before = path.read_text("utf-8") if path.exists() else ""
            if before == text:
                continue
            changed += 1
            if check:
                _print_diff(name, before, text)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
                print(f"written: {name}")
    if check and changed:
        print(f"{changed} generated file(s) are out of date: run `make generate` and commit.")
        return 1
    return 0


def _print_diff(name: str, before: str, after: str) -> None:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{name} (committed)",
        f"{name} (generated)",
    )
    sys.stdout.writelines(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
