"""The statements, one per file under ``queries/``, and how they are put together.

A file is valid SQL as it stands. ``/*name*/``, with the ``j.*`` or ``true`` or nothing before it, is replaced by
``queries/parts/name.sql``: column lists and conditions that several statements share. ``/*name $5 $7*/`` says which of
the statement's parameters are the part's own ``$1`` and ``$2``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_MARK = re.compile(r"(?:j\.\* |true )?/\*(\w+)((?: \$\d+)*)\*/")
_PARAMETER = re.compile(r"\$(\d+)")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@cache
def query(name: str) -> bytes:
    """Return ``queries/<name>.sql``: parts put in, comments left out."""
    return text(name).encode()


def text(name: str) -> str:
    """Return ``queries/<name>.sql`` as text: parts put in, comments left out."""
    return _MARK.sub(_part, _text(f"queries/{name}.sql")).strip()


def _part(mark: re.Match[str]) -> str:
    part, given = text(f"parts/{mark[1]}"), mark[2].split()
    return _PARAMETER.sub(lambda p: given[int(p[1]) - 1], part) if given else part


def names() -> list[str]:
    """Name every statement there is."""
    folder = files(__package__) / "queries"
    return sorted(f.name.removesuffix(".sql") for f in folder.iterdir() if f.name.endswith(".sql"))


def migration_files() -> list[tuple[int, str, str]]:
    """Return (version, name, text) of each migration, in order."""
    folder = files(__package__) / "migrations"
    found = sorted((f.name, f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(int(name[:4]), name.removesuffix(".sql"), text) for name, text in found]


def _text(path: str) -> str:
    return _COMMENT.sub("", (files(__package__) / path).read_text(encoding="utf-8"))
