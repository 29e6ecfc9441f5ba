"""What CI runs (`make check`): named steps, one table at the end.

With `CI=true` a tool that is missing fails the check. The last line says what did not run
and how to run it. `python -m scripts.check lint types` runs only these steps.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = str(ROOT / ".venv" / "bin" / "python")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
PG15_BIN = Path("/usr/lib/postgresql/15/bin")
PG15_HINT = "apt-get install postgresql-15 (Debian 12), then `make check`"
SPREAD = ["-n", "3", "--dist", "worksteal"]
"""As in the Makefile: tests wait more than they compute."""
STORE_TESTS = ["tests", "-m", "postgres and not slow", "--ignore", "tests/acceptance"]
PGBOUNCER_HINT = "apt-get install pgbouncer, then `make check`"
MODEL_HINT = "apt-get install spin gcc (macOS: brew install spin), then `make check`"
POOLED_TESTS = [
    *("tests/acceptance", "tests/conformance", "-m", "postgres"),
    # These bring a PostgreSQL of their own, or need sessions of their own: a role in the URL's options, which a pooler
    # refuses (tests/acceptance/test_pgbouncer.py).
    *(f"--ignore=tests/acceptance/test_{name}.py" for name in ("bench", "demo", "dev", "embedded", "grants")),
    "--deselect=tests/acceptance/test_cli.py::test_not_found_and_not_allowed",
]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


class Missing(Exception):
    """A step cannot run here; the text says how to make it run."""


class Absent(Missing):
    """As `Missing`, but of something that not every machine of CI has: never a failure."""


@dataclass(frozen=True)
class Step:
    """A named command. `prepare` may install what it needs, or raise `Missing`."""

    name: str
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Verdict:
    """How one step ended."""

    name: str
    state: str
    duration_s: float
    note: str = ""
    may_be_absent: bool = False


def steps() -> list[Step]:
    """All steps, cheapest first."""
    listed = [
        Step("lint", [PYTHON, "-m", "ruff", "check"]),
        Step("format", [PYTHON, "-m", "ruff", "format", "--check"]),
        Step("types", [PYTHON, "-m", "mypy"]),
        # What users write, as the engine of their editors sees it (tests/typing has mypy look at it as well).
        Step(
            "typing",
            [str(ROOT / ".venv/bin/basedpyright"), "--pythonpath", PYTHON, "-p", str(ROOT / "tests/typing/project")],
        ),
        Step("imports", [str(ROOT / ".venv/bin/lint-imports"), "--no-cache"]),
        Step("drift", [PYTHON, "-m", "scripts.generate", "--check"]),
        Step("model", [PYTHON, "-m", "scripts.model"], prepare=_need_spin),
    ]
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    listed += [_syntax(version) for version in PYTHONS if version != own]
    listed += [
        Step("tests", ["make", "--no-print-directory", "test"]),
        Step(
            "tests-pg15",
            [PYTHON, "-m", "pytest", *SPREAD, *STORE_TESTS],
            env={"GOQUEUE_TEST_PG_BIN": str(PG15_BIN)},
            prepare=_need_pg15,
        ),
        Step(
            "tests-pgbouncer",
            [PYTHON, "-m", "pytest", *SPREAD, *POOLED_TESTS],
            env={"GOQUEUE_TEST_PGBOUNCER": "1"},
            prepare=_need_pgbouncer,
        ),
    ]
    return listed


def main(names: list[str]) -> int:
    """Run the steps to the end, also after a failure, and print the table."""
    chosen = [step for step in steps() if not names or step.name in names]
    if unknown := set(names) - {step.name for step in chosen}:
        print(f"no such step: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    verdicts = [_run(step) for step in chosen]
    _print_table(verdicts)
    missing = [verdict for verdict in verdicts if verdict.state == "not run"]
    if missing:
        print("Not run: " + "; ".join(f"{verdict.name}: {verdict.note}" for verdict in missing))
    failed = any(verdict.state == "FAILED" for verdict in verdicts)
    must_run = [verdict for verdict in missing if not verdict.may_be_absent]
    return 1 if failed or (IN_CI and must_run) else 0


def _run(step: Step) -> Verdict:
    shown = " ".join(step.command).split("\n", 1)[0]
    print(f"\n=== {step.name}: {shown}", flush=True)
    started = time.monotonic()
    try:
        step.prepare()
        # A make that runs us hands its flags down; a step is a command of its own.
        env = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
        code = subprocess.run(step.command, cwd=ROOT, env={**env, **step.env}, stdin=subprocess.DEVNULL).returncode
    except Missing as missing:
        return Verdict(
            step.name, "not run", time.monotonic() - started, str(missing), may_be_absent=isinstance(missing, Absent)
        )
    except FileNotFoundError as error:
        return Verdict(step.name, "not run", time.monotonic() - started, f"install {error.filename}")
    state = "ok" if code == 0 else "FAILED"
    return Verdict(step.name, state, time.monotonic() - started, "" if code == 0 else f"exit {code}")


def _print_table(verdicts: list[Verdict]) -> None:
    width = max((len(verdict.name) for verdict in verdicts), default=4)
    print("\n" + "-" * (width + 40))
    for verdict in verdicts:
        duration = f"{verdict.duration_s:8.1f} s"
        print(f"{verdict.name:<{width}}  {verdict.state:<8}{duration}  {verdict.note}".rstrip())
    print("-" * (width + 40), flush=True)


# -- other Pythons ---------------------------------------------------------------------------------

# The tests run under one Python; the others at least have to accept every file.
_PARSE = """
import pathlib, sys, warnings
warnings.simplefilter("error")
for path in sorted(pathlib.Path("src").rglob("*.py")):
    compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
print("Python", sys.version.split()[0], "accepts src/")
"""


def _syntax(version: str) -> Step:
    return Step(
        f"syntax-{version}", [f"python{version}", "-I", "-c", _PARSE], prepare=lambda: _need_python(f"python{version}")
    )


def _need_python(name: str) -> None:
    """Raise `Absent` unless that Python is here and starts (a version manager's shim may not).

    Not a failure in CI: another interpreter is what the check is repeated with, not a tool of the check, and a
    distribution packages one or two of these versions; it cannot be installed here as PostgreSQL 15 can.
    """
    hint = f"put {name} on PATH (`pyenv install`, or a container of that Python), then `make check`"
    if shutil.which(name) is None:
        raise Absent(hint)
    try:
        code = subprocess.run([name, "-I", "-c", ""], capture_output=True, timeout=30).returncode
    except subprocess.TimeoutExpired:
        code = -1
    if code != 0:
        raise Absent(f"there is a {name} that does not start; {hint}")


# -- PostgreSQL 15 ---------------------------------------------------------------------------------


def _need_pg15() -> None:
    if (PG15_BIN / "postgres").exists():
        return
    if not _may_install():
        raise Missing(PG15_HINT)
    _apt("update", hint=PG15_HINT)
    _apt("install", "-y", "--no-install-recommends", "postgresql-common", hint=PG15_HINT)
    # The tests start their own server; the package must not start one of its own.
    settings = Path("/etc/postgresql-common/createcluster.conf")
    settings.write_text(settings.read_text("utf-8") + "\ncreate_main_cluster = false\n", "utf-8")
    _apt("install", "-y", "--no-install-recommends", "postgresql-15", hint=PG15_HINT)
    if not (PG15_BIN / "postgres").exists():
        raise Missing(PG15_HINT)


# -- PgBouncer -------------------------------------------------------------------------------------


def _need_pgbouncer() -> None:
    # Should the package start one on its port: the tests' have ports and files of their own.
    _need(["pgbouncer"], ["pgbouncer"], PGBOUNCER_HINT)


# -- the model checker -----------------------------------------------------------------------------


def _need_spin() -> None:
    # Debian's gcc alone lacks the headers that Spin's searches include.
    _need(["spin", "cc"], ["spin", "gcc", "libc6-dev"], MODEL_HINT)


# -- what a step needs -----------------------------------------------------------------------------


def _need(tools: Sequence[str], packages: Sequence[str], hint: str) -> None:
    if _has(tools):
        return
    if not _may_install():
        raise Missing(hint)
    _apt("update", hint=hint)
    _apt("install", "-y", "--no-install-recommends", *packages, hint=hint)
    if not _has(tools):
        raise Missing(hint)


def _has(tools: Sequence[str]) -> bool:
    # Debian puts some of them where only root's PATH looks.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return all(shutil.which(tool, path=path) is not None for tool in tools)


def _may_install() -> bool:
    return IN_CI and os.geteuid() == 0 and shutil.which("apt-get") is not None


def _apt(*arguments: str, hint: str) -> None:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    code = subprocess.run(["apt-get", "-qq", *arguments], env=env, timeout=600).returncode
    if code != 0:
        raise Missing(f"apt-get {' '.join(arguments)} failed; {hint}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
