"""What a Python file has in it. The tasks use it, and the demo counts again with it to compare."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Counts:
    """Of one file. Functions include methods and async ones."""

    functions: int
    classes: int
    lines: int


def count(path: Path) -> Counts:
    """Parse a file and count. Raises `SyntaxError` and whatever else parsing it raises."""
    source = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files have escapes and literals that a newer Python complains about
        tree = ast.parse(source, filename=str(path))
    functions = classes = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
        elif isinstance(node, ast.ClassDef):
            classes += 1
    return Counts(functions, classes, lines=len(source.splitlines()))
