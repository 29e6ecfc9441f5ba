"""`goqueue server`: the HTTP server as a process of its own, with the duties that keep the store in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from goqueue.cli import logs
from goqueue.cli.processes import (
    Stopping,
    check_address,
    open_when_there,
    override,
    run_loop,
    stop_on_signals,
    tell_store,
)
from goqueue.configuration import configuration
from goqueue.duties import Duties
from goqueue.model.errors import GoQueueError, StoreUnavailable

if TYPE_CHECKING:
    from goqueue.cli.doors import Doors
    from goqueue.cli.options import LogFormat
    from goqueue.settings import ServerSettings
    from goqueue.store.port import Store

log = structlog.get_logger("goqueue.server")


def run_server(doors: Doors, *, url: str | None, host: str | None, port: int | None, log_format: LogFormat) -> None:
    """Serve until a signal says to stop."""
    settings = override("server", configuration().server, host=host, port=port)
    where = doors.resolve(url)
    check_address(doors, settings)
    logs.configure(log_format, source="server")
    run_loop(_serve(doors, where, settings))


async def _serve(doors: Doors, url: str, settings: ServerSettings) -> None:
    store = doors.store(url)
    with stop_on_signals() as stopping:
        try:
            await _refuse_unfit(store)
            duties = asyncio.create_task(_upkeep(store, stopping), name="goqueue-upkeep")
            serving = asyncio.create_task(
                doors.serve(store, settings, ready=lambda at: log.info("listen", url=at), stop=stopping.wanted)
            )
            # Whichever fails brings down the other; a stop ends both.
            await asyncio.wait([duties, serving], return_when=asyncio.FIRST_EXCEPTION)
            stopping.wanted.set()
            await asyncio.gather(duties, serving)
            log.info("stopped")
        finally:
            await store.close()


async def _refuse_unfit(store: Store) -> None:
    """A schema that does not fit ends the start. A store that is away does not: requests get 503 until it is back."""
    try:
        await store.schema()
        await store.open()
    except StoreUnavailable as error:
        log.warning("wait", reason="the store is unavailable", error=str(error))


async def _upkeep(store: Store, stopping: Stopping) -> None:
    if not await open_when_there(store, stopping):
        return
    tell_store(store)
    duties = Duties(store, configuration().duties)
    duties.start()
    try:
        await stopping.wanted.wait()
    finally:
        try:
            await duties.stop()
        except GoQueueError as error:
            log.warning("resign", error=str(error))
