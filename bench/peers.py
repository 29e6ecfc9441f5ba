"""The peers' environment: made by the bench under `.bench/`, as `requirements/bench.txt` pins it, and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import ROOT, Failed

REQUIREMENTS = ROOT / "requirements" / "bench.txt"
CACHE = ROOT / ".bench"
INSTALL_S = 600.0
_VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}))
"""


def python() -> Path:
    """The interpreter of the peers' environment, made if it is not there. Raises `Failed`."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"peers-{digest}"
    found = folder / "bin" / "python"
    done = folder / "complete"
    if done.exists():
        return found
    print(f"bench: the peers' environment is being made in {folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted one
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
    except (subprocess.SubprocessError, OSError) as error:
        text = getattr(error, "stderr", None) or str(error)
        raise Failed(f"the peers cannot be installed (--no-peers measures without them)\n{text}") from error
    done.touch()
    return found


def versions(interpreter: Path) -> dict[str, str]:
    """What is installed there."""
    found = subprocess.run([str(interpreter), "-c", _VERSIONS], capture_output=True, check=True, timeout=60)
    listed: dict[str, str] = json.loads(found.stdout)
    return {name: listed[name] for name in ("pgqueuer", "asyncpg", "uvloop", "uvicorn", "httptools", "msgspec")}


def _run(command: list[str]) -> None:
    subprocess.run(
        command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=INSTALL_S
    )
