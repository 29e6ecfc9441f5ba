"""`goqueue dev` as a process, and its HTTP interface as the demo uses it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

import httpx

START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 30.0
REQUEST_TIMEOUT_S: Final = 30.0
UNFINISHED: Final = ("scheduled", "ready", "running", "retrying", "blocked")


class DemoFailed(Exception):
    """What went wrong, for people."""


class Server:
    """`goqueue dev` in its own session, so that the terminal's Ctrl-C comes to the demo alone."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.log = Path()
        self.data = Path()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of `goqueue dev`."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it on a free port, and wait until it is ready."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Fresh for each run, and where also the account can go that PostgreSQL runs as when we are root.
        self.data = Path(tempfile.mkdtemp(prefix="goqueue-demo-", dir="/var/tmp" if os.geteuid() == 0 else None))  # noqa: S108
        self.data.chmod(0o711)
        descriptor, name = tempfile.mkstemp(prefix="goqueue-demo-", suffix=".log")
        self.log = Path(name)
        print(f"starting goqueue dev on {self.url}", flush=True)
        with os.fdopen(descriptor, "wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "goqueue",
                    "dev",
                    "--port",
                    str(port),
                    "--data-dir",
                    str(self.data / "postgres"),
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if not self.is_up():
                raise DemoFailed("goqueue dev ended at its start")
            if time.monotonic() > deadline:
                raise DemoFailed(f"goqueue dev was not ready in {START_TIMEOUT_S:.0f} s")
            time.sleep(0.1)

    def is_up(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it and wait for its end. Idempotent."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)
        shutil.rmtree(self.data, ignore_errors=True)
        if process.returncode == 0:
            self.log.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """Return the end of its log."""
        if not self.log.is_file():
            return ""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-25:]
        return "\n".join([f"{self.log} ends with:", *lines])

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False


class Jobs:
    """Jobs over HTTP, with nothing but HTTP."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, jobs: list[dict[str, object]]) -> list[str]:
        """Submit a batch; return the ids in order."""
        results = self._json("POST", "/v1/jobs/batch", json={"jobs": jobs})["results"]
        refused = [result["error"] for result in results if "error" in result]
        if refused:
            raise DemoFailed(f"{len(refused)} jobs were refused, the first: {refused[0]}")
        return [result["job"]["id"] for result in results]

    def submit_one(self, job: dict[str, object]) -> str:
        """Submit one job; return its id."""
        return str(self._json("POST", "/v1/jobs", json=job)["id"])

    def unfinished(self, tag: str) -> int:
        """Count the jobs with this tag that are not final."""
        return len(self.all(tag, UNFINISHED))

    def all(self, tag: str, states: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Return every job with this tag, page by page."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            query = {"tag": tag, "state": list(states), "page_size": 500, "page_token": token}
            page = self._json("GET", "/v1/jobs", params=query)
            found += page["jobs"]
            token = page["next_page_token"]
            if not token:
                return found

    def _json(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise DemoFailed(f"{method} {path}: {str(error) or type(error).__name__}") from None
        if response.is_error:
            raise DemoFailed(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
