"""Resolve `requirements/*.txt` again from pyproject.toml (`make lock`). Why: docs/why/lock.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "dev.txt": ["--extra", "all", "--group", "dev"],
    "lock.txt": ["--group", "lock"],
}


def main(options: list[str]) -> int:
    """Install the pinned resolver, then write each lock. `--upgrade` moves every pin."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
    subprocess.run([*pip, "-r", "requirements/lock.txt"], cwd=ROOT, check=True)
    for name, inputs in LOCKS.items():
        source = ["pyproject.toml"] if "--extra" in inputs else []
        command = [
            *[sys.executable, "-m", "uv", "pip", "compile", *source, *inputs],
            *["--universal", "--python-version", "3.11", "--generate-hashes"],
            *["--no-emit-index-url", "--no-emit-find-links", "--no-config"],
            *["--custom-compile-command", "make lock", "--quiet", *options],
            *["--output-file", f"requirements/{name}"],
        ]
        subprocess.run(command, cwd=ROOT, check=True)
        _refuse_places((ROOT / "requirements" / name).read_text("utf-8"), name)
    return 0


def _refuse_places(text: str, name: str) -> None:
    """A lock that names a host or a path installs only where it was made."""
    for line in text.splitlines():
        if "://" in line or str(ROOT) in line or line.startswith("-"):
            raise SystemExit(f"requirements/{name} names a place: {line.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
