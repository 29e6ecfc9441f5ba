"""Where a project's own PostgreSQL lives, and whether it runs. Light: a library may import it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from goqueue.cli.dev import guard
from goqueue.cli.dev.errors import EmbeddedFailed

HOST: Final = "127.0.0.1"
USER: Final = "goqueue"
DATABASE: Final = "goqueue"


def attach(data_dir: Path | str | None = None) -> str | None:
    """The url of the server that runs in `data_dir` (default: this project's), or None.

    It does not keep the server from stopping. For a library or worker without GOQUEUE_URL.
    """
    home = Path(data_dir) if data_dir is not None else default_data_dir()
    try:
        if home.lstat().st_uid != os.geteuid():
            return None
        found = read_postmaster(home)
        return None if found is None else url_of(home, found.port, DATABASE)
    except OSError:
        return None


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upwards with a pyproject.toml or a .git, else the one we are in."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() or (folder / ".git").exists():
            return folder
    return here


def default_data_dir(start: Path | None = None) -> Path:
    """Where this project's server keeps its data.

    `.goqueue/postgres` in the project; for root, whose projects the server's account often cannot
    reach, a folder named after the project's path in `root_state_dir()`.
    """
    root = project_root(start)
    if os.geteuid() != 0:
        return root / ".goqueue" / "postgres"
    return root_state_dir() / f"dev-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"


def root_state_dir() -> Path:
    """Where root keeps what another account has to reach. Not /var/tmp if it can be helped: what lies
    there unused for a month is cleaned away, file by file, and half a database is worse than none."""
    if os.access("/var/lib", os.W_OK):
        return Path("/var/lib/goqueue")
    return Path("/var/tmp/goqueue-0")  # noqa: S108 - that it is root's own is checked before use


def make_own_folder(folder: Path, mode: int) -> None:
    """Make it if it is absent; refuse one that another user, or a link, has put there first."""
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise EmbeddedFailed(
            f"{folder} is not a folder of this user's own: another user or a link was there first. "
            "Remove it, or choose another one (--data-dir)."
        )
    folder.chmod(mode)


# -- the files of a running server -----------------------------------------------------------------


@dataclass(frozen=True)
class Postmaster:
    pid: int
    port: int


def read_postmaster(home: Path) -> Postmaster | None:
    """The server that is ready for connections, or None."""
    if not home.exists() or guard.is_free(str(home / guard.CLUSTER)):
        return None
    lines = _pid_file(home)
    if len(lines) < 8 or lines[7].strip() != "ready" or read_pid(home) is None:
        return None
    return Postmaster(pid=int(lines[0]), port=int(lines[3]))


def read_pid(home: Path) -> int | None:
    """The postmaster's id if a process with that id lives. Means something under a held lock only."""
    lines = _pid_file(home)
    if not lines or not lines[0].strip().isdigit():
        return None
    pid = int(lines[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return pid


def _pid_file(home: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return (home / "pg" / "postmaster.pid").read_text("utf-8").splitlines()
    return []


def read_remembered_port(home: Path) -> int | None:
    with suppress(OSError, ValueError):
        state = json.loads((home / "state.json").read_text("utf-8"))
        port = state.get("port") if isinstance(state, dict) else None
        return port if isinstance(port, int) else None
    return None


def url_of(home: Path, port: int, database: str) -> str:
    password = (home / "password").read_text("ascii").strip()
    return f"postgresql://{USER}:{quote(password, safe='')}@{HOST}:{port}/{quote(database, safe='')}"
