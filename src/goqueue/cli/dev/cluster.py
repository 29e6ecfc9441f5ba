"""The cluster's files: the folder, who owns it, and initdb once and for all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from goqueue.cli.dev.binaries import Account, Binaries, clean_environment, find_account
from goqueue.cli.dev.errors import EmbeddedFailed
from goqueue.cli.dev.place import USER, make_own_folder, root_state_dir


def prepare_home(home: Path) -> Account:
    """Make the folder, check that it is ours alone, and say who is to run the server in it."""
    root = os.geteuid() == 0
    if root and root_state_dir() in home.parents:
        make_own_folder(root_state_dir(), 0o755)
    make_own_folder(home, 0o711 if root else 0o700)
    if home.parent.name == ".goqueue":  # the default place, inside of a project
        (home.parent / ".gitignore").write_text("*\n", "ascii")
    account = find_account((home / "pg").stat().st_uid if (home / "pg").exists() else None)
    for parent in home.parents if account.uid is not None else ():
        facts = parent.stat()
        owned = facts.st_uid == account.uid and facts.st_mode & stat.S_IXUSR
        if not owned and not facts.st_mode & stat.S_IXOTH:
            raise EmbeddedFailed(
                f"PostgreSQL does not run as root, and the account {account.name} cannot enter "
                f"{parent}. Choose a data folder outside of it, under /var/tmp say (--data-dir)."
            )
    return account


def make_cluster(home: Path, binaries: Binaries, account: Account, *, durable: bool, deadline: float) -> None:
    """Make the cluster beside its place and move it there: half a cluster never has its name."""
    cluster = home / "pg"
    for leftover in home.glob("init-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    version = cluster / "PG_VERSION"
    if version.exists():
        made_by = version.read_text("ascii").strip()
        if made_by != str(binaries.major):
            raise EmbeddedFailed(
                f"{home} was made by PostgreSQL {made_by}, and this is "
                f"{binaries.major}. Move the folder away to start afresh."
            )
        if not (home / "password").exists():
            raise EmbeddedFailed(f"{home}/password is lost; restore it or start afresh")
        return
    if cluster.exists():
        raise EmbeddedFailed(f"{cluster} is not a PostgreSQL cluster; move it away")
    password = secrets.token_urlsafe(24)
    write_private(home / "password", password)
    work = Path(tempfile.mkdtemp(prefix="init-", dir=home))
    write_private(work / "password", password)
    _give((work / "password", work), account)
    _run_initdb(work, binaries, account, durable=durable, deadline=deadline)
    (work / "pg").rename(cluster)
    _sync(home)
    shutil.rmtree(work, ignore_errors=True)


def _run_initdb(work: Path, binaries: Binaries, account: Account, *, durable: bool, deadline: float) -> None:
    command = [
        *[binaries.initdb, "--pgdata", str(work / "pg"), "--username", USER],
        *["--pwfile", str(work / "password"), "--auth", "scram-sha-256"],
        *["--encoding", "UTF8", "--no-instructions"],
        *_locale(binaries.major),
        *([] if durable else ["--no-sync"]),
    ]
    try:
        result = subprocess.run(
            command,
            cwd=work,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(1.0, deadline - time.monotonic()),
            user=account.uid,
            group=account.gid,
            extra_groups=None if account.uid is None else [],
            umask=0o077,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedFailed(f"initdb did not end in {error.timeout:.0f} s") from error
    if result.returncode != 0:
        raise EmbeddedFailed(f"initdb failed:\n{result.stdout[-4000:]}")


def _locale(major: int) -> list[str]:
    """C.UTF-8, by PostgreSQL's own provider where it has one (the C library's may lack it)."""
    if major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C"] if sys.platform == "darwin" else ["--locale=C.UTF-8"]


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, for our eyes only."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)


def _give(paths: tuple[Path, ...], account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        for path in paths:
            os.chown(path, account.uid, account.gid)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
