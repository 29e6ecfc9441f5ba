"""The peers' environments: made by the bench under `.bench/`, as `requirements/bench/` pins them, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.processes import ROOT, Failed

REQUIREMENTS = ROOT / "requirements" / "bench"
NODE_SOURCE = ROOT / "bench" / "sides" / "node"
CACHE = ROOT / ".bench"
INSTALL_S = 600.0
ASK_S = 60.0
_VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}))
"""


class Missing(Failed):
    """This machine lacks what a peer needs; the text says what."""


@dataclass(frozen=True)
class Place:
    """An environment of Python packages."""

    python: Path
    versions: Mapping[str, str]


@cache
def place(name: str, *, python_min: tuple[int, int] = (3, 11)) -> Place:
    """The environment that `requirements/bench/{name}.txt` describes, made if it is not there. Raises `Missing`."""
    requirements = REQUIREMENTS / f"{name}.txt"
    base = _python(python_min)
    folder = _folder(name, requirements.read_bytes() + str(base).encode() + sys.version.encode())
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted one
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
        _make(folder, [[base, "-m", "venv", str(folder)], pip])
    found = subprocess.run([str(python), "-c", _VERSIONS], capture_output=True, check=True, timeout=ASK_S)
    return Place(python, json.loads(found.stdout))


@cache
def node_folder() -> Path:
    """The folder of Node scripts with the packages that they import. Raises `Missing`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing("needs node and npm")
    sources = sorted(NODE_SOURCE.iterdir())
    folder = _folder("node", b"".join(source.read_bytes() for source in sources))
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for source in sources:
            shutil.copy(source, folder)
        _make(folder, [["npm", "ci", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder)]])
    return folder


def node_version(package: str) -> str:
    """The version of an installed package of Node's."""
    described = json.loads((node_folder() / "node_modules" / package / "package.json").read_text("utf-8"))
    return str(described["version"])


def _python(least: tuple[int, int]) -> str:
    if sys.version_info[:2] >= least:
        return sys.executable
    for minor in range(least[1], least[1] + 4):
        name = f"python{least[0]}.{minor}"
        homes = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
        for found in [shutil.which(name), *(str(p) for home in homes for p in home.glob(f"*/bin/{name}"))]:
            # A shim of a version manager may be there and refuse to run.
            if found and subprocess.run([found, "-c", ""], capture_output=True, timeout=ASK_S).returncode == 0:
                return found
    raise Missing(f"needs Python {least[0]}.{least[1]} or newer")


def _folder(name: str, content: bytes) -> Path:
    return CACHE / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"


def _make(folder: Path, commands: Sequence[list[str]]) -> None:
    """Run the commands that fill the folder, and note that it is complete."""
    print(f"bench: {folder.relative_to(ROOT)} is being made", flush=True)
    try:
        for command in commands:
            subprocess.run(
                command,
                cwd=ROOT,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=INSTALL_S,
            )
    except (subprocess.SubprocessError, OSError) as error:
        text = getattr(error, "stderr", None) or str(error)
        raise Missing(f"cannot be installed: {text.strip()[-400:]}") from error
    (folder / "complete").touch()
