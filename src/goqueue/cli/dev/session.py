"""`goqueue dev`: a PostgreSQL, the server and a supervised worker, from one terminal, until it is told to stop.

The server and the supervisor are in this process, which runs no code of the user's: that is in worker processes, which
are started anew when a file changes. All of them end when this one does, however it ends: workers see their lifeline
close, the guard of the embedded PostgreSQL sees its lock become free.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from goqueue.cli import loading, logs
from goqueue.cli.dev import banner, watching
from goqueue.cli.dev.place import default_data_dir, project_root
from goqueue.cli.processes import check_address, override, run_loop, stop_on_signals
from goqueue.cli.reloading import GRACE_S
from goqueue.cli.working import WorkerPlan, encode
from goqueue.configuration import Configuration, configuration
from goqueue.duties import Duties
from goqueue.engine.supervisor import Supervisor
from goqueue.model.errors import ConfigurationError, GoQueueError, InvalidSetting, SchemaError

if TYPE_CHECKING:
    from goqueue.cli.dev.embedded import EmbeddedPostgres
    from goqueue.cli.doors import Doors
    from goqueue.cli.options import LogFormat
    from goqueue.store.port import Store

POSTGRES_CHECK_S: Final = 1.0
HEARD_S: Final = 0.5
"""A signal that has ended a child of ours is heard here within this time."""

log = structlog.get_logger("goqueue.dev")


class DevOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said."""

    app: str | None
    port: int
    data_dir: Path | None
    log_format: LogFormat


def run(doors: Doors, options: DevOptions) -> None:
    """Run until a signal says to stop; then leave no process behind."""
    loading.add_working_folder()
    logs.configure(options.log_format, source="server", by_logger=True)
    run_loop(_Session(doors, options).run())


class _Session:
    def __init__(self, doors: Doors, options: DevOptions) -> None:
        self._doors = doors
        self._options = options
        self._config = configuration()
        self._changed = asyncio.Event()
        self._config_changed = asyncio.Event()
        self._supervisor: Supervisor | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._port = options.port
        self._introduced = False

    # -- from start to end ------------------------------------------------------------------------

    async def run(self) -> None:
        with stop_on_signals() as stopping:
            self._stopping = stopping
            stopping.on_stop(self._stop_worker)
            check_address(self._doors, override("server", self._config.server, port=self._options.port))
            try:
                url = await self._find_database()
                if url is not None:
                    await self._run_on(url)
            except GoQueueError:
                # A Ctrl-C during the start cuts something off (initdb gets it, too), and may be heard a moment later.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARD_S):
                        await stopping.wanted.wait()
                if not stopping.wanted.is_set():
                    raise
            finally:
                await self._stop_postgres()
            log.info("stopped")

    async def _run_on(self, url: str) -> None:
        store = self._doors.store(url, self._config.store)
        try:
            await self._migrate(store)
            await store.open()
            duties = Duties(store, self._config.duties)
            duties.start()
            try:
                await self._run_parts(store, url)
            finally:
                with contextlib.suppress(GoQueueError):
                    await duties.stop()
        finally:
            await store.close()

    async def _migrate(self, store: Store) -> None:
        try:
            await store.migrate()
        except SchemaError as error:
            if self._postgres is not None:
                folder = self._postgres.data_dir
                error.add_note(f"The data of this project is in {folder}: remove that folder to start afresh.")
            raise

    async def _run_parts(self, store: Store, url: str) -> None:
        parts = [
            asyncio.create_task(self._serve(store, url), name="goqueue-dev-server"),
            asyncio.create_task(self._work(store, url), name="goqueue-dev-worker"),
            asyncio.create_task(self._watch(), name="goqueue-dev-watch"),
            asyncio.create_task(self._keep_postgres(), name="goqueue-dev-postgres"),
        ]
        await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
        if not self._stopping.wanted.is_set():
            self._stopping.stop()
        await asyncio.gather(*parts, return_exceptions=True)
        for part in parts:
            part.result()

    # -- the database -----------------------------------------------------------------------------

    async def _find_database(self) -> str | None:
        """Return the URL of the user's own database, or start the project's; None if told to stop meanwhile."""
        if self._config.url is not None:
            return self._config.url
        from goqueue.cli.dev.embedded import EmbeddedPostgres

        self._postgres = EmbeddedPostgres(self._options.data_dir or default_data_dir())
        started_at = time.monotonic()
        await asyncio.to_thread(self._postgres.start)
        log.info("postgres", data=str(self._postgres.data_dir), took_s=round(time.monotonic() - started_at, 2))
        return None if self._stopping.wanted.is_set() else self._postgres.url

    async def _keep_postgres(self) -> None:
        """Start it again if it dies: with the same data and port, so that all others just come back."""
        while self._postgres is not None and not await self._stopping.sleep(POSTGRES_CHECK_S):
            if not self._postgres.is_running():
                log.warning("postgres", reason="it has died; starting it again")
                await asyncio.to_thread(self._postgres.start)
                log.info("postgres", port=self._postgres.port)

    async def _stop_postgres(self) -> None:
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)

    # -- the server -------------------------------------------------------------------------------

    async def _serve(self, store: Store, url: str) -> None:
        """Serve, and serve again with new settings when these have changed."""
        while not self._stopping.wanted.is_set():
            self._config_changed.clear()
            settings = override("server", self._config.server, port=self._port)
            stop = asyncio.Event()
            serving = asyncio.create_task(
                self._doors.serve(store, settings, ready=lambda at: self._introduce(at, url), stop=stop)
            )
            waits = [asyncio.create_task(event.wait()) for event in (self._stopping.wanted, self._config_changed)]
            await asyncio.wait([serving, *waits], return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            for wait in waits:
                wait.cancel()
            await serving

    def _introduce(self, address: str, url: str) -> None:
        if self._introduced:
            log.info("listen", url=address)
            return
        self._introduced = True
        self._port = int(address.rpartition(":")[2])  # also after a restart, where --port 0 said: any
        banner.show(
            address=address,
            url=url,
            app=self._app_name(),
            data_dir=self._postgres.data_dir if self._postgres is not None else None,
            default_place=self._options.data_dir is None,
            reload=watching.is_available(),
        )

    # -- the worker -------------------------------------------------------------------------------

    def _app_name(self) -> str | None:
        return self._options.app or self._config.app

    async def _work(self, store: Store, url: str) -> None:
        """Run the worker; when a file changes, a new one. One that cannot start waits for the next change."""
        while not self._stopping.wanted.is_set():
            self._changed.clear()
            app = self._app_name()
            if app is not None:
                await self._run_worker(app, store, url)
            if not self._changed.is_set():
                await self._first_of(self._changed, self._stopping.wanted)

    async def _run_worker(self, app: str, store: Store, url: str) -> None:
        base = self._config.worker
        settings = msgspec.structs.replace(base, grace_s=min(base.grace_s, GRACE_S))
        plan = WorkerPlan(
            app=app,
            url=url,
            queues=(),
            worker=settings,
            store=self._config.store,
            log_format=self._options.log_format,
            tell_jobs=True,
        )
        self._supervisor = Supervisor(
            self._doors.worker_target, encode(plan), settings, extend=store.extend, settle=store.settle, get=store.get
        )
        try:
            await self._supervisor.run()
        except ConfigurationError:
            if watching.is_available():
                log.error("wait", reason="the worker could not start (see above): change a file to try again")
            else:
                log.error("wait", reason="the worker could not start (see above): stop, change it, and start again")
        finally:
            self._supervisor = None

    def _stop_worker(self) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()

    # -- changes ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        if not watching.is_available():
            await self._stopping.wanted.wait()
            return
        async for paths in watching.changes(project_root(), self._stopping.wanted):
            if any(path.name in watching.settings_files() for path in paths) and not self._read_settings():
                continue
            shown = ", ".join(path.name for path in paths[:3]) + (" …" if len(paths) > 3 else "")
            log.info("reload", changed=shown)
            if not self._changed.is_set():
                self._changed.set()
                self._stop_worker()

    def _read_settings(self) -> bool:
        configuration.cache_clear()
        try:
            new: Configuration = configuration()
        except InvalidSetting as error:
            log.error("reload", error=str(error))
            return False
        if new.url != self._config.url or new.store != self._config.store or new.duties != self._config.duties:
            log.warning("reload", reason="url, store and duties are read at the start: start dev again for these")
        if new.server != self._config.server:
            self._config_changed.set()
        self._config = new
        return True

    @staticmethod
    async def _first_of(*events: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
