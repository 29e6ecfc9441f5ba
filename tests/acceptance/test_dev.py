"""`goqueue dev`: from nothing to a result, through every way in which it can end."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from goqueue.cli.dev.place import read_postmaster
from tests.support.database import bin_dir, temporary_folder
from tests.support.processes import Bench, Process, bench, until

# It starts servers of its own, from the extra: another PostgreSQL cannot be chosen for it.
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(bin_dir() is not None, reason="goqueue dev always brings the embedded PostgreSQL"),
]

APP = """
import asyncio
from pathlib import Path
from goqueue import GoQueue
app = GoQueue()

@app.task
async def greet(name: str) -> str:
    return f"Hello, {name}!"

@app.task(run_in="process")
def in_process() -> int:
    return 1

@app.task
async def hang() -> None:
    Path("hanging").touch()
    await asyncio.sleep(3600)
"""


class Project:
    """A folder with an application and a PostgreSQL of its own."""

    def __init__(self, place: Bench) -> None:
        self.place = place
        self.app = place.folder / "jobs.py"
        self.app.write_text(APP)
        self.data = place.folder / "data"

    def dev(self, *arguments: str, app: str | None = "jobs:app", **variables: str) -> Process:
        named = [app] if app is not None else []
        return self.place.start("dev", *named, "--port", "0", "--data-dir", str(self.data), *arguments, **variables)

    @staticmethod
    def address(process: Process) -> str:
        return process.wait_for(r"server +(http://\S+)")[1]

    def submit(self, address: str, kind: str = "greet", **args: object) -> str:
        answer = httpx.post(f"{address}/v1/jobs", json={"kind": kind, "args": args}, timeout=30.0)
        assert answer.status_code == 201, answer.text
        return f"{address}/v1/jobs/{answer.json()['id']}"

    def result(self, job: str) -> object:
        record: dict[str, object] = {}

        def is_completed() -> bool:
            try:
                record.update(httpx.get(job, timeout=30.0).json())
            except httpx.TransportError:  # the server is starting again
                return False
            return record.get("state") == "completed"

        assert until(is_completed), record
        return record["result"]

    def greeting(self, address: str) -> object:
        return self.result(self.submit(address, name="Ada"))


@pytest.fixture
def project() -> Iterator[Project]:
    with temporary_folder() as folder, bench(folder) as place:
        yield Project(place)


def test_from_nothing_to_a_result_and_again(project: Project) -> None:
    for round_ in range(2):
        dev = project.dev()
        address = project.address(dev)
        assert dev.wait_for(r"app +(\S+)")[1] == "jobs:app"
        assert dev.wait_for(r"data +(\S+)")[1] == str(project.data)
        assert project.greeting(address) == "Hello, Ada!"
        assert project.result(project.submit(address, "in_process")) == 1
        assert httpx.get(f"{address}/v1/jobs", timeout=30.0).json()["jobs"].__len__() == 2 * (round_ + 1), (
            "data is kept"
        )
        url = project.place.run("db", "url", "--data-dir", str(project.data)).stdout.strip()
        shown = project.place.run("jobs", "list", "-o", "csv", "--url", url).stdout
        assert shown.count("completed") == 2 * (round_ + 1)
        password = url.split(":")[2].partition("@")[0]
        assert password not in dev.output
        assert dev.stop(signal.SIGINT) == 0, dev.output
        assert "Traceback" not in dev.output
        assert not project.place.left()


def test_a_changed_file_is_loaded_again(project: Project) -> None:
    dev = project.dev()
    address = project.address(dev)
    assert project.greeting(address) == "Hello, Ada!"
    project.app.write_text(APP.replace("Hello", "Good morning"))
    dev.wait_for(r"reload .*changed=jobs.py")
    dev.wait_for(r"worker +start ")
    assert project.greeting(address) == "Good morning, Ada!"
    assert dev.stop() == 0


def test_a_file_that_does_not_matter_is_not_loaded_again(project: Project) -> None:
    dev = project.dev()
    project.address(dev)
    dev.wait_for(r"worker +start ")
    for name in ("notes.txt", ".venv/lib/thing.py", "data/thing.py.swp", "__pycache__/jobs.py"):
        path = project.place.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    (project.place.folder / "other.py").write_text("x = 1\n")  # this one does, and comes after them
    assert dev.wait_for(r"reload .*changed=(.*)")[1].split() == ["other.py"]
    assert dev.stop() == 0


def test_a_broken_application_is_shown_and_waited_for(project: Project) -> None:
    project.app.write_text("import this_module_is_not_there\n")
    dev = project.dev()
    address = project.address(dev)
    dev.wait_for(r'File ".*jobs.py", line 1')
    dev.wait_for("ModuleNotFoundError: No module named 'this_module_is_not_there'")
    dev.wait_for("could not start .*: change a file")
    assert "goqueue/cli/loading.py" not in dev.output, "only the user's part of the traceback"
    job = project.submit(address, name="Ada")  # the server is there all the same
    project.app.write_text("def broken(:\n")
    dev.wait_for("SyntaxError")
    dev.wait_for("could not start .*: change a file")
    project.app.write_text(APP)
    assert project.result(job) == "Hello, Ada!"
    assert dev.stop() == 0


def test_settings_that_change_are_read_again(project: Project) -> None:
    settings = project.place.folder / "pyproject.toml"
    settings.write_text("")
    dev = project.dev(app=None)
    address = project.address(dev)
    dev.wait_for(r"app +none, so no worker: goqueue dev module:app")
    job = project.submit(address, name="Ada")
    settings.write_text('[tool.goqueue]\napp = 1\nappp = "jobs:app"\n')
    dev.wait_for("no setting appp; do you mean app")
    settings.write_text('[tool.goqueue]\napp = "jobs:app"\n[tool.goqueue.server]\nbatch_max = 2\n')
    assert project.result(job) == "Hello, Ada!"
    assert dev.wait_for(r"listen +url=(http://\S+)")[1] == address
    answer = httpx.post(f"{address}/v1/jobs/batch", json={"jobs": [{"kind": "greet"}] * 3}, timeout=30.0)
    assert answer.status_code == 422, answer.text
    assert dev.stop() == 0


def test_a_taken_port_is_named_before_anything_starts(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = project.place.run("dev", "jobs:app", "--port", str(port), "--data-dir", str(project.data))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "--port" in done.stderr
    assert not project.data.exists()


def test_a_database_of_ones_own_is_used(project: Project, database_url: str) -> None:
    dev = project.dev(GOQUEUE_URL=database_url)
    address = project.address(dev)
    dev.wait_for("your own: GOQUEUE_URL is set")
    assert project.greeting(address) == "Hello, Ada!"
    assert not project.data.exists()
    assert dev.stop() == 0


def test_the_rest_of_the_project_finds_it_by_itself() -> None:
    """Without --data-dir: where root's goes is the machine's, so this runs in a project whose data is removed after."""
    with temporary_folder() as folder, bench(folder) as place:
        (folder / "pyproject.toml").write_text('[tool.goqueue]\napp = "jobs:app"\n')
        project = Project(place)
        alone = place.run("enqueue", "greet", '{"name": "Ada"}')
        assert alone.returncode == 2
        assert "GOQUEUE_URL" in alone.stderr
        assert "goqueue dev" in alone.stderr
        dev = place.start("dev", "--port", "0")
        try:
            data = Path(dev.wait_for(r"postgres +data=(\S+)")[1])
            project.address(dev)
            done = place.run("enqueue", "greet", '{"name": "Ada"}', "--wait", "30")
            assert (done.returncode, done.stdout) == (0, '"Hello, Ada!"\n'), done.stderr
            worker = place.start("worker")
            worker.wait_for(r"worker +start ")
            assert worker.stop() == 0
        finally:
            assert dev.stop() == 0
            subprocess.run(["rm", "-rf", str(data)], check=True)


# -- ends ------------------------------------------------------------------------------------------


def test_a_stop_does_not_wait_for_handlers_that_hang(project: Project) -> None:
    dev = project.dev()
    address = project.address(dev)
    job = project.submit(address, "hang")
    assert until((project.place.folder / "hanging").exists)
    assert dev.stop() == 0
    assert "hand_back" in dev.output
    dev = project.dev(app=None)
    address = project.address(dev)
    record = httpx.get(f"{address}{job[job.index('/v1') :]}", timeout=30.0).json()
    assert (record["state"], record["attempt"], record["crashes"]) == ("ready", 0, 0), "handed back, not crashed"
    assert dev.stop() == 0


def test_nothing_survives_a_kill_and_the_next_start_goes_on(project: Project) -> None:
    dev = project.dev()
    address = project.address(dev)
    assert project.greeting(address) == "Hello, Ada!"
    assert project.result(project.submit(address, "in_process")) == 1  # a child of the worker's, too
    assert len(project.place.left()) >= 4
    dev.send(signal.SIGKILL)
    dev.end()
    assert until(lambda: not project.place.left()), project.place.left()
    dev = project.dev()
    assert project.greeting(project.address(dev)) == "Hello, Ada!"
    assert dev.stop() == 0


def test_a_stop_during_the_start_is_quiet(project: Project) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        dev = project.dev()
        assert until(project.data.exists)
        os.killpg(dev.pid, number)  # as a terminal does it: initdb gets it too
        assert dev.end() == 0, dev.output
        assert "Traceback" not in dev.output
        assert not project.place.left()
        shutil.rmtree(project.data)


def test_a_closed_terminal_ends_it(project: Project) -> None:
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "goqueue", "dev", "jobs:app", "--port", "0", "--data-dir", str(project.data)],
        cwd=project.place.folder,
        env=project.place.env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
    )
    os.close(slave)
    try:
        text = b""
        while b"Ctrl-C" not in text or b"concurrency" not in text:
            text += os.read(master, 65_536)
        os.close(master)
        assert process.wait(60) == 0
        assert until(lambda: not project.place.left())
    finally:
        process.kill()
        process.wait(60)


def test_its_postgresql_is_started_again_when_it_dies(project: Project) -> None:
    dev = project.dev()
    address = project.address(dev)
    assert project.greeting(address) == "Hello, Ada!"
    before = read_postmaster(project.data)
    assert before is not None
    psutil.Process(before.pid).kill()
    dev.wait_for("it has died; starting it again")
    body = {"kind": "greet", "args": {"name": "Ada"}}
    assert until(lambda: httpx.post(f"{address}/v1/jobs", json=body, timeout=30.0).status_code == 201)
    assert project.greeting(address) == "Hello, Ada!"
    after = read_postmaster(project.data)
    assert after is not None
    assert (after.port, after.pid != before.pid) == (before.port, True)
    assert dev.stop() == 0
