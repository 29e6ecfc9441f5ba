"""The README's Python runs, as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from goqueue import Client
from goqueue.engine.worker import Worker
from goqueue.settings import WorkerSettings
from goqueue.store.postgres import PostgresStore

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_the_first_job_runs(database_url: str, tmp_path: Path) -> None:
    assert len(BLOCKS[0].splitlines()) == 1 + 5, "a first job is five lines, below the name of their file"
    (tmp_path / "mail.py").write_text(BLOCKS[0])
    (tmp_path / "first.py").write_text(BLOCKS[1])
    environment = {**os.environ, "GOQUEUE_URL": database_url, "PYTHONPATH": str(tmp_path)}
    goqueue = Path(sys.executable).with_name("goqueue")
    with subprocess.Popen([goqueue, "worker", "mail:app", "--queues", "mail"], env=environment, cwd=tmp_path) as worker:
        try:
            script = [sys.executable, "first.py"]
            done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        finally:
            worker.terminate()
    assert (done.stdout, done.returncode) == ("sent 'Hi' to ada@example.com\n", 0), done.stderr


def test_a_job_in_your_own_transaction(database_url: str) -> None:
    names: dict[str, Any] = {"__name__": "mail"}
    exec(BLOCKS[0], names)  # noqa: S102  the README's own text
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id integer)")
    with Client(names["app"], database_url) as client:
        names |= {"psycopg": psycopg, "url": database_url, "client": client}
        exec(BLOCKS[2], names)  # noqa: S102  the README's own text
        assert sum(count.count for count in client.counts()) == 1
    asyncio.run(_work(names["app"], database_url))
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT result::text FROM goqueue.job_history").fetchone()
    assert row == ("\"sent 'Order 1' to ada@example.com\"",)


async def _work(app: Any, url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    try:
        async with asyncio.timeout(20):
            await Worker(app, store, WorkerSettings(), queues=("mail",)).run_until_idle()
    finally:
        await store.close()


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """Nobody finds a page that nothing leads to."""
    reached: set[Path] = set()
    to_read = [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#]+\.md)[^)]*\)", page.read_text("utf-8"))
        to_read += [(page.parent / target).resolve() for target in targets if "://" not in target]
    lost = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")} - {
        str(page.relative_to(ROOT)) for page in reached
    }
    assert not lost
