"""The Django example, as processes: `manage.py`, a WSGI and an ASGI server, workers that reload."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from goqueue.contrib.django.conf import _url
from goqueue.model.job import NewJob
from goqueue.wiring import Client
from tests.support.database import POOLED
from tests.support.examples import copied
from tests.support.processes import DEADLINE_S, Bench, until

READY = re.compile(r"http://127.0.0.1:(\d+)")


@pytest.fixture
def place(empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The example, on a database that has nothing yet. GOQUEUE_URL is not set: DATABASES says it all."""
    with copied(tmp_path, empty_database_url, monkeypatch, part="django_shop") as place:
        del place.env["GOQUEUE_URL"]
        place.env.update(DATABASE_URL=empty_database_url, DJANGO_SETTINGS_MODULE="shop.settings", PYTHONPATH=".")
        yield place


@pytest.fixture
def migrated(place: Bench, empty_database_url: str) -> Bench:
    for command in (("goqueue_migrate",), ("migrate", "--run-syncdb", "--no-color")):
        done = manage(place, *command)
        assert done.returncode == 0, done.stderr
    return place


def manage(place: Bench, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=place.folder,
        env={**place.env, **env},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


@contextmanager
def running(place: Bench, *arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the example, with its output in ``output.txt``; it ends by SIGTERM."""
    with (place.folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=place.folder, env={**place.env, **env}, stdout=output, stderr=output
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) in (0, -signal.SIGTERM), said(place)
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def said(place: Bench) -> str:
    return (place.folder / "output.txt").read_text("utf-8", "replace")


@contextmanager
def site(place: Bench, *arguments: str) -> Iterator[httpx.Client]:
    with running(place, *arguments):
        assert until(lambda: READY.search(said(place))), said(place)
        found = READY.search(said(place))
        assert found is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=DEADLINE_S) as http:
            yield http


WSGI = """
from wsgiref.simple_server import make_server
from shop.wsgi import application
server = make_server("127.0.0.1", 0, application)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""
ASGI = ("-m", "uvicorn", "shop.asgi:application", "--port", "0", "--lifespan", "off")
WORKER = ("manage.py", "goqueue_worker", "--processes", "1")


def test_orders_under_wsgi(migrated: Bench, empty_database_url: str) -> None:
    with site(migrated, "-c", WSGI) as http, running(migrated, *WORKER):
        _order(http)
        assert http.get("/orders/count").json() == {"orders": 1}  # an async view, in a loop of its own
        assert http.get("/orders/count").json() == {"orders": 1}  # and in another
    _look(empty_database_url)


def test_orders_under_asgi(migrated: Bench, empty_database_url: str) -> None:
    with site(migrated, *ASGI) as http, running(migrated, *WORKER):
        _order(http)
        assert [http.get("/orders/count").json() for _ in range(3)] == [{"orders": 1}] * 3
    _look(empty_database_url)


def _order(http: httpx.Client) -> None:
    answer = http.post("/orders", data={"email": "ada@example.com"})
    assert answer.status_code == 201, answer.text
    path = f"/jobs/{answer.json()['job']}"
    assert until(lambda: http.get(path).json()["state"] == "completed")
    assert http.post("/orders", data={"email": "nobody"}).status_code == 400


def _look(url: str) -> None:
    """The refused order is not there, and neither is its job."""
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT email, confirmed FROM shop_order").fetchall() == [("ada@example.com", True)]
    with Client(url=url) as client:
        assert len(list(client.iterate(kinds=["confirm"]))) == 1


def test_handlers_in_processes_have_django_too(migrated: Bench, empty_database_url: str) -> None:
    code = """
import django; django.setup()
from goqueue.contrib.django import client
from shop.jobs import longest_address
from shop.models import Order
Order.objects.create(email="ada@example.com")
print(client.enqueue(longest_address.job()).result(timeout_s=60))
"""
    with running(migrated, *WORKER):
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", code],
            cwd=migrated.folder,
            env=migrated.env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    assert (done.stdout, done.stderr) == ("15\n", ""), said(migrated)


@pytest.mark.skipif(POOLED, reason="the server's processes are the pooler's, and outlive clients")
def test_connections_are_closed_around_each_job(migrated: Bench, empty_database_url: str) -> None:
    """Old ones: CONN_MAX_AGE is 0 here. Broken ones: somebody has ended them."""
    settings = migrated.folder / "shop" / "settings.py"
    settings.write_text(
        settings.read_text("utf-8")
        + "DATABASES['default'].update(CONN_MAX_AGE=int(os.environ['AGE']), OPTIONS={'application_name': 'django'})\n"
    )
    for age in ("0", "3600"):
        code = "import django; django.setup(); from goqueue.contrib.django import client as c; import shop.jobs as j;"
        code += "print([c.enqueue(t.job()).result(timeout_s=60) for _ in range(2) for t in ({})])"
        with running(migrated, *WORKER, AGE=age), psycopg.connect(empty_database_url, autocommit=True) as connection:

            def ask(tasks: str, age: str = age, code: str = code) -> None:
                done = subprocess.run(
                    [sys.executable, "-c", code.format(tasks)],
                    cwd=migrated.folder,
                    env={**migrated.env, "AGE": age},
                    timeout=DEADLINE_S,
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, done.stderr + said(migrated)

            def open_now(connection: psycopg.Connection = connection) -> int:
                query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'django'"
                query += " AND datname = current_database()"
                row = connection.execute(query.encode()).fetchone()
                assert row is not None
                return int(row[0])

            ask("j.count_orders, j.longest_address")
            if age == "0":
                assert until(lambda: open_now() == 0)
            else:
                assert open_now() > 0
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'django'"
                    " AND datname = current_database()"
                )
                ask("j.count_orders, j.longest_address")  # at the first attempt or the second: all jobs are done


def test_the_worker_reloads(migrated: Bench, empty_database_url: str) -> None:
    jobs = migrated.folder / "shop" / "jobs.py"
    text = jobs.read_text("utf-8")
    with running(migrated, "manage.py", "goqueue_worker", "--reload"), Client(url=empty_database_url) as client:
        assert until(lambda: "start" in said(migrated))
        jobs.write_text(text + "\n\ndef broken(:\n")
        assert until(lambda: "change a file to try again" in said(migrated)), said(migrated)
        jobs.write_text(text.replace("return found", "return found + 40"))
        count: NewJob[object] = NewJob(kind="count_orders")
        job = client.enqueue(count)
        assert job.result(timeout_s=DEADLINE_S) == 40, said(migrated)


def test_checks_say_what_is_missing(place: Bench) -> None:
    done = manage(place, "check", "--database", "default")
    assert "(goqueue.W002)" in done.stderr
    assert "manage.py goqueue_migrate" in done.stderr
    assert manage(place, "goqueue_migrate").returncode == 0
    assert manage(place, "check", "--database", "default").stderr == ""
    settings = place.folder / "shop" / "settings.py"
    text = settings.read_text("utf-8")
    for setting, expected in (
        ("GOQUEUE = {}", r"\(goqueue.E001\) which application\? Set GOQUEUE"),
        ("GOQUEUE = {'APP': 'shop.nowhere:app'}", r"\(goqueue.E001\) cannot import shop.nowhere"),
        ("GOQUEUE = {'APPS': 'shop.jobs:app'}", r"no key 'APPS'; do you mean 'APP'\?"),
        ("GOQUEUE = 'shop.jobs:app'", "must be a dict"),
        ("GOQUEUE['DATABASE'] = 'other'", r"DATABASES has no 'other'"),
        (
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}",
            r"\(goqueue.W001\) DATABASES\['default'\] is sqlite, not PostgreSQL: set GOQUEUE_URL",
        ),
    ):
        settings.write_text(f"{text}\n{setting}\n")
        assert re.search(expected, manage(place, "check").stderr), (setting, manage(place, "check").stderr)
    settings.write_text(f"{text}\nGOQUEUE = {{}}\n")
    worker = manage(place, "goqueue_worker")
    assert worker.returncode == 1
    assert worker.stderr.startswith("CommandError: which application?")


def test_the_url_is_what_django_would_connect_to() -> None:
    parts = {"NAME": "a b", "USER": "me@x", "PASSWORD": "p/w:d", "HOST": "db.example.com", "PORT": 5433}
    options = {"OPTIONS": {"sslmode": "require", "pool": True, "isolation_level": 1}}
    for given in (parts, {**parts, **options}, {**parts, "HOST": "/run/pg"}, {"NAME": "x"}, {"PORT": "1", "NAME": ""}):
        known = psycopg.conninfo.conninfo_to_dict(_url(given))
        assert {name: str(value) for name, value in known.items()} == {
            name: str(value)
            for name, value in {
                "dbname": given.get("NAME"),
                "user": given.get("USER"),
                "password": given.get("PASSWORD"),
                "host": given.get("HOST"),
                "port": given.get("PORT"),
                "sslmode": "require" if "OPTIONS" in given else None,
            }.items()
            if value
        }
