"""`goqueue worker`: a supervisor (this process), and worker processes in which the application runs."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import msgspec
import structlog

from goqueue.cli import loading, logs, reloading
from goqueue.cli.options import LogFormat
from goqueue.cli.processes import Stopping, open_when_there, override, run_loop, stop_on_signals, tell_store
from goqueue.configuration import configuration
from goqueue.duties import Duties
from goqueue.engine.supervisor import Supervisor
from goqueue.engine.worker import Worker, worker_info
from goqueue.model.errors import ConfigurationError, GoQueueError, InvalidSetting, SchemaError
from goqueue.model.job import DEFAULT_QUEUE
from goqueue.settings import StoreSettings, WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from goqueue.cli.doors import Doors
    from goqueue.engine.child import Child
    from goqueue.engine.completion import Completer
    from goqueue.store.port import Store, WorkStore
    from goqueue.tasks.app import GoQueue

log = structlog.get_logger("goqueue.cli")


class WorkerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor tells each worker process to do."""

    app: str
    url: str
    queues: tuple[str, ...]
    """In order; empty: ``default``, then all that the application's tasks name."""
    worker: WorkerSettings
    store: StoreSettings
    log_format: LogFormat = LogFormat.TEXT
    tell_jobs: bool = False
    """Write a line for each job: for `goqueue dev`."""


# -- the supervisor's process -----------------------------------------------------------------------


def run_worker(
    doors: Doors,
    *,
    app: str | None,
    queues: str | None,
    concurrency: int | None,
    processes: int | None,
    recycle_jobs: int | None = None,
    recycle_memory_bytes: int | None = None,
    url: str | None,
    log_format: LogFormat,
    reload: Path | None = None,
) -> None:
    """Run workers until a signal says to stop. ``reload``: start them anew when a file in this folder changes."""
    if reload is not None:
        reloading.check()
    base = override(
        "worker",
        configuration().worker,
        concurrency=concurrency,
        processes=processes,
        recycle_jobs=recycle_jobs,
        recycle_memory_bytes=recycle_memory_bytes,
    )
    if reload is not None:
        base = msgspec.structs.replace(base, grace_s=min(base.grace_s, reloading.GRACE_S))
    plan = WorkerPlan(
        app=loading.app_name(app),
        url=doors.resolve(url),
        queues=(),
        worker=base,
        store=configuration().store,
        log_format=log_format,
    )
    plans = [
        msgspec.structs.replace(plan, queues=names, worker=override("worker", base, concurrency=slots))
        for names, slots in parse_queues(queues)
    ]
    loading.add_working_folder()
    logs.configure(log_format, source="worker")
    run_loop(_supervise(doors, plans, reload))


def parse_queues(text: str | None) -> list[tuple[tuple[str, ...], int | None]]:
    """Return groups of queues and their slots: those without a number share the usual ones, in order.

    None is one group without a name: all queues of the application.
    ``mail=50,default,slow`` is ``[(("default", "slow"), None), (("mail",), 50)]``. Raises `InvalidSetting`.
    """
    shared: list[str] = []
    own: list[tuple[tuple[str, ...], int | None]] = []
    if text is None:
        return [((), None)]
    for item in text.split(","):
        name, equals, number = (part.strip() for part in item.partition("="))
        if not name or (equals and not (number.isdigit() and int(number) > 0)):
            raise InvalidSetting(f"--queues: cannot read {item.strip()!r}: write mail=50,default")
        if name in shared or any(name in names for names, _ in own):
            raise InvalidSetting(f"--queues: {name} is named twice")
        if equals:
            own.append(((name,), int(number)))
        else:
            shared.append(name)
    return ([(tuple(shared), None)] if shared else []) + own


async def _supervise(doors: Doors, plans: list[WorkerPlan], reload: Path | None) -> None:
    store = doors.store(plans[0].url, plans[0].store)
    with stop_on_signals() as stopping:
        try:
            if not await open_when_there(store, stopping):
                return
            if not store.capabilities.shared:
                raise ConfigurationError("worker processes need a store that they share: postgresql://…, not memory://")
            if reload is None:
                supervisors = _supervisors(doors, plans, store)
                for supervisor in supervisors:
                    stopping.on_stop(supervisor.stop)
                await _with_duties(_run_all(supervisors, stopping), store)
            else:
                made = reloading.Reloading(lambda: _supervisors(doors, plans, store), reload, stopping)
                await _with_duties(made.run(), store)
        finally:
            await store.close()


def _supervisors(doors: Doors, plans: list[WorkerPlan], store: Store) -> list[Supervisor]:
    return [
        Supervisor(
            doors.worker_target,
            encode(plan),
            plan.worker,
            extend=store.extend,
            settle=store.settle,
            get=store.get,
        )
        for plan in plans
    ]


async def _with_duties(running: Coroutine[object, object, None], store: Store) -> None:
    duties = Duties(store, configuration().duties)
    duties.start()
    try:
        await running
    finally:
        try:
            await duties.stop()
        except GoQueueError as error:
            log.warning("resign", error=str(error))


async def _run_all(supervisors: list[Supervisor], stopping: Stopping) -> None:
    running = [asyncio.create_task(supervisor.run()) for supervisor in supervisors]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        if any(task.exception() for task in done) and not stopping.wanted.is_set():
            stopping.stop()
        await asyncio.gather(*running)
    finally:
        await asyncio.gather(*running, return_exceptions=True)


def encode(plan: WorkerPlan) -> str:
    """Return a plan as the payload of a supervisor."""
    return msgspec.json.encode(plan).decode()


# -- a worker's process -----------------------------------------------------------------------------


async def work(
    child: Child,
    open_store: Callable[[str, StoreSettings], Store],
    completer: Callable[[Store, StoreSettings], Completer | None],
) -> None:
    """Be one worker process. A `ConfigurationError` says that starting it again would not help."""
    plan = msgspec.json.decode(child.payload, type=WorkerPlan)
    # When the terminal is closed its whole group is told; the supervisor is the one to act on it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.configure(plan.log_format, source="worker")
    try:
        app = loading.import_app(plan.app)
        app.check()
    except loading.CannotImport as error:
        loading.show_cause(error)
        raise
    store = open_store(plan.url, plan.store)
    try:
        if not await _open(child, store):
            return
        tell_store(store, quietly=plan.tell_jobs)  # in `goqueue dev` it is what dev says it is
        queues = plan.queues or _queues_of(app)
        info = worker_info(app, plan.worker, queues, id=child.worker_id, version=_version())
        worker = Worker(
            app,
            _telling(store) if plan.tell_jobs else store,
            plan.worker,
            queues=queues,
            info=info,
            lifeline=child.lifeline,
            journal=child.journal,
            app_ref=plan.app,
            completer=completer(store, plan.store),
        )
        await child.serve(worker)
    finally:
        await store.close()


def _queues_of(app: GoQueue) -> tuple[str, ...]:
    """The queues that jobs of these tasks go to unless they say otherwise."""
    named = {task.queue for task in app.tasks.values()}
    return (DEFAULT_QUEUE, *sorted(named - {DEFAULT_QUEUE}))


async def _open(child: Child, store: Store) -> bool:
    """Open the store, however long it is away; False when told to stop meanwhile."""
    stopping = Stopping()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.stop)
    child.lifeline.attach(
        stop=lambda *, now=False, patience_s=0.0: stopping.stop(),  # noqa: ARG005  there is nothing to hand back yet
        orphaned=stopping.stop,
        beaten_at=lambda _at, _ttl_s: None,
    )
    try:
        return await open_when_there(store, stopping)
    except SchemaError as error:
        raise ConfigurationError(str(error)) from error
    finally:
        child.lifeline.detach()


def _telling(store: Store) -> WorkStore:
    from goqueue.cli.dev.telling import TellingStore

    return TellingStore(store)


def _version() -> str:
    from importlib.metadata import version

    return version("goqueue")
