"""What `goqueue init` writes: settings and a first application. Nothing that exists is overwritten."""

from __future__ import annotations

import keyword
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from goqueue.model.errors import ConfigurationError, InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterator

_APP: Final = '''\
"""Background jobs. Try `goqueue dev`, and in another terminal: goqueue enqueue greet '{"name": "Ada"}' --wait 10"""

from goqueue import GoQueue

app = GoQueue()


@app.task(max_attempts=5, timeout_s=30)
async def greet(name: str) -> str:
    return f"Hello, {name}!"
'''


def write_starter(module: str) -> Iterator[str]:
    """Write what is missing, and yield a line about each file and what to do next."""
    if not module.isidentifier() or keyword.iskeyword(module):
        raise InvalidSetting(f"--module: {module!r} cannot be the name of a module")
    pyproject, source = Path("pyproject.toml"), Path(f"{module}.py")
    table = f'[tool.goqueue]\napp = "{module}:app"\n'
    present = _has_table(pyproject)  # before anything is written: a file that cannot be read ends this
    yield _write_new(source, _APP)
    if present:
        yield f"{pyproject} has [tool.goqueue] already: left as it is"
    else:
        there = pyproject.exists()
        with pyproject.open("a", encoding="utf-8") as file:
            file.write(f"\n{table}" if there else table)
        yield f"{pyproject}: {'added' if there else 'written, with'} [tool.goqueue]"
    yield "Now: goqueue dev"


def _write_new(path: Path, text: str) -> str:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return f"{path} exists: left as it is"
    return f"{path}: written"


def _has_table(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        return "goqueue" in tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML ({error}): mend it first, nothing was written") from None
