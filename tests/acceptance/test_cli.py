"""The commands: what they print, how they fail, and what they do not load."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from goqueue import configuration as configuration_module
from goqueue.cli.main import run
from goqueue.cli.working import parse_queues
from goqueue.model.errors import InvalidSetting
from goqueue.wiring import _Doors
from tests.support.database import POOLED
from tests.support.processes import bench

DRIVERS_AND_FRAMEWORKS = ("psycopg", "psycopg_pool", "starlette", "uvicorn", "uvloop", "httpx", "watchfiles")
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/none"

APP = """
from goqueue import Context, GoQueue
app = GoQueue()

@app.task(queue="mail", max_attempts=7)
async def send(to: str, copies: int = 1) -> dict[str, int]:
    print("sending to", to)
    return {to: copies}

@app.task
def fail() -> None:
    raise ValueError("on purpose")

@app.task
def attempt(ctx: Context[None]) -> int:
    return ctx.attempt

@app.task(run_in="process")
def square(x: int) -> int:
    return x * x
"""


class Cli:
    """Commands run in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run, check the exit code, return what was printed; errors are in ``err``."""
        configuration_module.configuration.cache_clear()
        self._capture.readouterr()
        got = run(_Doors(), arguments)
        out, self.err = self._capture.readouterr()
        assert got == code, f"{arguments}: exit {got}\n{out}\n{self.err}"
        return out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project that we are in, and no setting from outside."""
    for name in list(os.environ):
        if name.startswith("GOQUEUE_"):
            monkeypatch.delenv(name)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    configuration_module.configuration.cache_clear()
    structlog.reset_defaults()


@pytest.fixture
def cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def here(cli: Cli, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands that find a database."""
    monkeypatch.setenv("GOQUEUE_URL", database_url)
    return cli


def write_app(folder: Path) -> str:
    name = f"app_{uuid.uuid4().hex[:8]}"
    (folder / f"{name}.py").write_text(APP)
    return f"{name}:app"


# -- light -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "import goqueue",
        "import goqueue; goqueue.GoQueue; goqueue.Client; goqueue.Context",
        "import goqueue.cli.main; goqueue.cli.main.build()",
        "--help",
        "--version",
        # Typer itself takes Pydantic to read the options of a command: no driver and no web framework there.
        "worker --help",
        "db --help",
        "doctor --help",
        "jobs retry --help",
        "jobs retry",
        "config",
        "jobs list --nonsense",
    ],
)
def test_nothing_heavy_is_loaded(code: str, folder: Path) -> None:
    arguments = [] if code.startswith("import") else code.split()
    if arguments:
        start = f"import sys; sys.argv[1:] = {arguments}; from goqueue.wiring import main"
        code = f"{start}\ntry: main()\nexcept SystemExit: pass"
    unwanted = [*DRIVERS_AND_FRAMEWORKS, *(["pydantic"] if len(arguments) < 2 and arguments != ["config"] else [])]
    report = f"\nimport sys\nprint('LOADED', [name for name in {unwanted!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.stderr.splitlines()[-1:] == ["LOADED []"], done.stderr


def test_it_is_a_module_too(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "goqueue", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "goqueue 0.1.0\n")


def test_every_command_explains_itself(cli: Cli) -> None:
    top = cli("--help")
    for command in (
        "dev",
        "server",
        "worker",
        "enqueue",
        "jobs",
        "queues",
        "db",
        "doctor",
        "config",
        "check",
        "run",
        "init",
    ):
        assert command in top
        assert "Usage: goqueue " + command in cli(command, "--help")
    assert "[tool.goqueue]" in cli("init", "--help"), "brackets are not markup"


# -- errors and exit codes --------------------------------------------------------------------------


def test_usage(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("jobs", "list", "--state", "sleeping", code=2)
    cli("nonsense", code=2)
    cli("jobs", "list", code=2)
    assert "GOQUEUE_URL" in cli.err
    assert "goqueue dev" in cli.err
    assert "[not_configured]" in cli.err
    cli("worker", code=2)
    assert "[tool.goqueue] app" in cli.err
    monkeypatch.setenv("GOQUEUE_WORKER_LEESE_S", "1")
    cli("config", code=2)
    assert "do you mean GOQUEUE_WORKER_LEASE_S" in cli.err
    monkeypatch.delenv("GOQUEUE_WORKER_LEESE_S")
    cli("worker", "m:app", "--queues", "mail=x", "--url", NOWHERE, code=2)
    cli("worker", "m:app", "--recycle-memory", "much", "--url", NOWHERE, code=2)
    cli("worker", "m:app", "--recycle-jobs", "-1", "--url", NOWHERE, code=2)
    done = subprocess.run(
        [sys.executable, "-m", "goqueue", "worker", "m:app", "--url", "memory://"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "share" in done.stderr) == (2, True)


@pytest.mark.postgres
@pytest.mark.skipif(POOLED, reason="the pooler answers in PostgreSQL's place")
def test_a_database_that_refuses_us_is_a_matter_of_settings_too(cli: Cli, folder: Path, database_url: str) -> None:
    nowhere = database_url.rpartition("/")[0] + "/no_such_database"
    stranger = re.sub("//[^@]*@", "//stranger:secret@", database_url)
    for url, what in ((nowhere, "no_such_database"), (stranger, "stranger")):
        for command in (("jobs", "list"), ("db", "migrate"), ("doctor",)):
            out = cli(*command, "--url", url, code=2) + cli.err
            assert what in out, command
            assert "secret" not in out, command
        assert what in apart(folder, "server", "--port", "0", "--url", url, code=2)


def apart(folder: Path, *arguments: str, code: int) -> str:
    """Run a command that stays up, and leaves signals ignored, in a process of its own; return what it wrote."""
    with bench(folder) as place:
        done = place.run(*arguments)
    assert done.returncode == code, (arguments, done)
    return done.stdout + done.stderr


@pytest.mark.parametrize("url", ["mysql://here/db", "here", "postgresql://user@here:port/db"])
def test_an_address_that_is_none_is_a_matter_of_settings_for_every_command(cli: Cli, folder: Path, url: str) -> None:
    app = write_app(folder)
    for command in (
        ("jobs", "list"),
        ("jobs", "show", str(uuid.uuid4())),
        ("jobs", "retry", str(uuid.uuid4())),
        ("jobs", "delete", "--state", "dead", "--yes"),
        ("queues", "list"),
        ("enqueue", "send"),
        ("db", "status"),
        ("db", "migrate"),
        ("db", "grant", "role", "--as", "worker"),
        ("doctor",),
        ("check", app),
    ):
        out = cli(*command, "--url", url, code=2)
        assert "postgresql://user:password@host" in out + cli.err, command
    for command in (("worker", app), ("server", "--port", "0")):
        assert "postgresql://user:password@host" in apart(folder, *command, "--url", url, code=2)


def test_unreachable(cli: Cli) -> None:
    for command in (
        ("jobs", "list"),
        ("jobs", "retry", "-s", "dead", "-y"),
        ("db", "status"),
        ("db", "migrate"),
        ("enqueue", "k"),
        ("queues", "list"),
    ):
        cli(*command, "--url", NOWHERE, code=5)
        assert "refused" in cli.err, cli.err
        assert "secret" not in cli.err
        assert len(cli.err.strip().splitlines()) == 1
    out = cli("doctor", "--url", NOWHERE, "-o", "csv", code=5)
    assert out.splitlines()[1].startswith("connection,error,")
    assert "refused" in out
    assert "secret" not in out


@pytest.mark.postgres
def test_no_schema(cli: Cli, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOQUEUE_URL", empty_database_url)
    cli("jobs", "list", code=1)
    assert "goqueue db migrate" in cli.err
    cli("db", "status", code=1)
    assert "goqueue db migrate" in cli("doctor", code=1)
    assert "0 -> " in cli("db", "migrate").replace("schema ", "")
    assert "nothing to do" in cli("db", "migrate")
    assert "nothing" in cli("db", "status")
    assert json.loads(cli("db", "status", "-o", "json"))["pending"] == []
    findings = {finding["check"]: finding for finding in json.loads(cli("doctor", "-o", "json", code=1))}
    # The tests' server is not durable, and nobody leads.
    wanted = {"durability", "leader", "pooler"} if POOLED else {"durability", "leader"}
    assert {check for check, finding in findings.items() if finding["level"] != "ok"} == wanted
    assert findings["schema_version"]["level"] == "ok"
    assert findings["clock"]["level"] == "ok"


@pytest.mark.postgres
def test_the_script_makes_the_schema(cli: Cli, empty_database_url: str) -> None:
    import psycopg

    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(cli("db", "sql").encode())
    assert "nothing to do" in cli("db", "migrate", "--url", empty_database_url)


@pytest.mark.postgres
def test_not_found_and_not_allowed(here: Cli, database_url: str) -> None:
    id = str(uuid.UUID(int=(7 << 76) | (2 << 62) | 1))
    here("jobs", "show", id, code=3)
    assert "[job_not_found]" in here.err
    here("jobs", "cancel", id, code=3)
    here("jobs", "show", "not-an-id", code=2)
    here("db", "grant", "nobody_of_that_name", "--as", "reader", code=2)
    assert "CREATE ROLE" in here.err
    separator = "&" if "?" in database_url else "?"
    here("jobs", "list", "--url", f"{database_url}{separator}options=-c%20role%3Dpg_monitor", code=4)
    assert "goqueue db grant" in here.err


# -- jobs -------------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_job_from_enqueue_to_delete(here: Cli) -> None:
    id = here("enqueue", "send", '{"to": "ada"}', "-q", "mail", "-p", "1", "--tag", "a", "--tag", "b").strip()
    other = here("enqueue", "later", "--delay", "3600", "--unique", "one").strip()
    assert here("enqueue", "later", "--delay", "3600", "--unique", "one").strip() == other
    assert "unique key" in here.err
    (record,) = json.loads(here("jobs", "list", "-q", "mail", "-o", "json"))
    assert (record["id"], record["args"], record["priority"], record["tags"]) == (id, {"to": "ada"}, 1, ["a", "b"])
    rows = list(csv.DictReader(io.StringIO(here("jobs", "list", "-o", "csv"))))
    assert [(row["id"], row["state"]) for row in rows] == [(other, "scheduled"), (id, "ready")]
    assert id in here("jobs", "list", "--tag", "a", "--tag", "b")
    assert here("jobs", "list", "--state", "dead") == ""
    assert "no such jobs" in here.err
    assert len(json.loads(here("jobs", "list", "-n", "1", "-o", "json"))) == 1
    shown = here("jobs", "show", id)
    assert '{"to": "ada"}' in shown
    assert "0 of 20" in shown
    assert json.loads(here("jobs", "show", id, "-o", "json"))["id"] == id
    counts = {row["queue"]: row for row in csv.DictReader(io.StringIO(here("queues", "list", "-o", "csv")))}
    assert (counts["mail"]["ready"], counts["default"]["scheduled"]) == ("1", "1")
    assert "cancel changed" in here("jobs", "cancel", id, "--reason", "not wanted")
    assert "not wanted" in here("jobs", "show", id)
    missing = str(uuid.UUID(int=(7 << 76) | (2 << 62) | 2))
    out = here("jobs", "retry", missing, id, code=3)
    assert "retry changed" in out, "the others are done all the same"
    assert "deleted" in here("jobs", "delete", id)
    here("jobs", "show", id, code=3)


@pytest.mark.postgres
def test_enqueue_refuses_what_cannot_be_stored(here: Cli, folder: Path) -> None:
    here("enqueue", "k", "[1]", code=2)
    assert "/args" in here.err
    here("enqueue", "k", "{", code=2)
    here("enqueue", "k", "-p", "11", code=2)
    assert "/priority" in here.err
    here("enqueue", "", code=2)


@pytest.mark.postgres
def test_enqueue_knows_the_application(here: Cli, folder: Path) -> None:
    app = write_app(folder)
    id = here("enqueue", "send", '{"to": "ada"}', "--app", app).strip()
    record = json.loads(here("jobs", "show", id, "-o", "json"))
    assert (record["queue"], record["max_attempts"]) == ("mail", 7)
    here("enqueue", "send", '{"too": "ada"}', "--app", app, code=2)
    assert "[invalid_arguments]" in here.err
    (folder / "pyproject.toml").write_text(f'[tool.goqueue]\napp = "{app}"\n')
    id = here("enqueue", "send", '{"to": "ada"}', "-q", "other").strip()
    assert json.loads(here("jobs", "show", id, "-o", "json"))["queue"] == "other"
    here("enqueue", "of_another_language")
    assert "no task" in here.err


@pytest.mark.postgres
def test_an_error_is_shown_with_its_traceback(here: Cli, folder: Path, database_url: str) -> None:
    app = write_app(folder)
    with bench(folder, GOQUEUE_URL=database_url) as place:
        worker = place.start("worker", app)
        worker.wait_for(f"worker +store .*durable=True.* shared=True notifications={not POOLED} ")
        worker.wait_for("worker +start ")
        done = place.run("enqueue", "fail", "--max-attempts", "1", "--wait", "30")
        assert done.returncode == 1
        assert "[job_failed]" in done.stderr
        assert "on purpose" in done.stderr
        ok = place.run("enqueue", "square", "-", "--app", app, "--wait", "30", stdin='{"x": 12}')
        assert (ok.returncode, ok.stdout) == (0, "144\n")
        assert worker.stop() == 0
    shown = here("jobs", "show", done.stderr.split()[0])
    assert "attempt 1" in shown
    assert 'raise ValueError("on purpose")' in shown


# -- applications -----------------------------------------------------------------------------------


def test_init_writes_and_never_overwrites(cli: Cli, folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "mine"  # a comment')
    out = cli("init")
    assert "goqueue dev" in out
    assert tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["goqueue"]["app"] == "jobs:app"
    assert "# a comment" in (folder / "pyproject.toml").read_text()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli("init").count("left as it is") == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "greet" in cli("check")
    cli("init", "--module", "not a module", code=2)
    (folder / "pyproject.toml").write_text("[broken")
    cli("init", "--module", "fresh", code=2)
    assert not (folder / "fresh.py").exists()


def test_init_in_an_empty_folder(cli: Cli, folder: Path) -> None:
    (folder / "pyproject.toml").unlink()
    cli("init", "--module", "tasks")
    assert tomllib.loads((folder / "pyproject.toml").read_text()) == {"tool": {"goqueue": {"app": "tasks:app"}}}
    done = subprocess.run(
        [sys.executable, "-m", "goqueue", "run", "greet", '{"name": "Ada"}'], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, '"Hello, Ada!"\n'), done.stderr


@pytest.mark.postgres
def test_check(here: Cli, folder: Path, empty_database_url: str) -> None:
    app = write_app(folder)
    rows = list(csv.DictReader(io.StringIO(here("check", app, "-o", "csv"))))
    assert [(row["kind"], row["queue"], row["runs in"]) for row in rows] == [
        ("attempt", "default", "thread"),
        ("fail", "default", "thread"),
        ("send", "mail", "loop"),
        ("square", "default", "process"),
    ]
    assert re.search(r"schema \d+: as this version needs it", here.err)
    here("check", app, "--url", empty_database_url, code=1)
    assert "goqueue db migrate" in here.err


def test_check_says_what_is_wrong_with_an_application(cli: Cli, folder: Path) -> None:
    cli("check", "no_such_module:app", code=1)
    assert "ModuleNotFoundError" in cli.err
    (folder / "bad_one.py").write_text("def f():\n    raise KeyError('deep')\nf()\n")
    cli("check", "bad_one:app", code=1)
    assert "line 2, in f" in cli.err
    assert "loading.py" not in cli.err
    (folder / "bad_two.py").write_text("app = 3\n")
    cli("check", "bad_two:app", code=1)
    assert "is of type int, not a GoQueue" in cli.err
    cli("check", "bad_two:nothing", code=1)
    cli("check", "bad_two", code=1)
    (folder / "bad_three.py").write_text("raise SystemExit(0)\n")
    cli("check", "bad_three:app", code=1)
    assert "schema not checked" in (cli("check", write_app(folder)), cli.err)[1]


def test_run_is_one_handler_in_the_foreground(folder: Path) -> None:
    app = write_app(folder)
    with bench(folder) as place:
        done = place.run("run", "send", '{"to": "ada", "copies": 2}', "--app", app)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("sending to ada\n")
        assert json.loads(done.stdout.partition("\n")[2]) == {"ada": 2}
        assert place.run("run", "attempt", "--app", app).stdout == "1\n"
        assert place.run("run", "square", '{"x": 9}', "--app", app).stdout == "81\n"
        failed = place.run("run", "fail", "--app", app)
        assert failed.returncode == 1
        assert failed.stderr.count('raise ValueError("on purpose")') == 1, "told once, not by the engine too"
        assert "ValueError: on purpose [job_failed]" in failed.stderr
        assert place.run("run", "send", '{"to": 1}', "--app", app).returncode == 2
        unknown = place.run("run", "sent", "--app", app)
        assert unknown.returncode == 1
        assert "send" in unknown.stderr


def test_config_shows_where_values_come_from(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOQUEUE_URL", NOWHERE)
    monkeypatch.setenv("GOQUEUE_WORKER_CONCURRENCY", "7")
    (folder / "pyproject.toml").write_text('[tool.goqueue]\napp = "a:b"\n')
    rows = {row["setting"]: row for row in csv.DictReader(io.StringIO(cli("config", "-o", "csv")))}
    assert (rows["worker.concurrency"]["value"], rows["worker.concurrency"]["source"]) == (
        "7",
        "GOQUEUE_WORKER_CONCURRENCY",
    )
    assert rows["app"]["source"] == str(folder / "pyproject.toml")
    assert rows["worker.lease_s"]["source"] == "default"
    assert "secret" not in rows["url"]["value"]
    changed = list(csv.DictReader(io.StringIO(cli("config", "--changed", "-o", "csv"))))
    assert [row["setting"] for row in changed] == ["url", "app", "worker.concurrency"]
    assert "secret" not in cli("config", "-o", "json")
    monkeypatch.setenv("GOQUEUE_URL", "postgresql://u@h/d?password=secret")
    assert "postgresql://u@h/d?password=…" in cli("config", "url")


def test_queues_with_and_without_slots() -> None:
    assert parse_queues(None) == [((), None)]
    assert parse_queues("mail=50,default, slow") == [(("default", "slow"), None), (("mail",), 50)]
    assert parse_queues("mail=50") == [(("mail",), 50)]
    for bad in ("mail=", "mail=0", "mail=-1", "=3", "a,,b", "a,a", "a,a=3", ""):
        with pytest.raises(InvalidSetting, match="--queues"):
            parse_queues(bad)


def test_a_server_is_not_opened_to_others_without_a_key(cli: Cli) -> None:
    cli("server", "--host", "0.0.0.0", "--url", NOWHERE, code=2)  # noqa: S104 - that is the point
    assert "API key" in cli.err


@pytest.mark.postgres
def test_a_server_says_what_its_store_can_do(here: Cli, folder: Path, database_url: str) -> None:
    with bench(folder, GOQUEUE_URL=database_url) as place:
        server = place.start("server", "--port", "0", "--log-format", "json")
        line = json.loads(server.wait_for('.*"event": "store".*').group())
        assert (line["store"], line["durable"], line["notifications"]) == ("postgres", True, not POOLED)
        assert server.stop() == 0


def test_ctrl_c_is_quiet(folder: Path) -> None:
    app = folder / "slow.py"
    app.write_text(
        "import time, sys\nfrom goqueue import GoQueue\napp = GoQueue()\n"
        "@app.task\nasync def hang() -> None:\n    import asyncio\n    print('hanging', flush=True)\n"
        "    await asyncio.sleep(3600)\n"
    )
    with bench(folder) as place:
        process = place.start("run", "hang", "--app", "slow:app")
        process.wait_for("hanging")
        assert process.stop(signal.SIGINT) == 130
        assert process.output.splitlines() == ["hanging"]


def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "goqueue", "config", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    with writer:
        writer.stdout.close()  # as `| head` does
        assert writer.stderr.read() == ""
    assert writer.returncode in (0, 1)
