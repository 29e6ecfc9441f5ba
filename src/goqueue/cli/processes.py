"""What all long-running commands share: signals, a store that may not be there yet, the loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from goqueue.model.errors import ConfigurationError, InvalidSetting, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    import msgspec

    from goqueue.cli.doors import Doors
    from goqueue.settings import ServerSettings
    from goqueue.store.port import Store

    S = TypeVar("S", bound=msgspec.Struct)

T = TypeVar("T")

RETRY_S: Final = 0.5
"""Within this time a store that is away is looked for again; within twice that the next time, and so on."""
RETRY_MAX_S: Final = 2.0

log = structlog.get_logger("goqueue.cli")


class Stopping:
    """A wish to stop, and with ``again`` a second one, which does not wait."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.again = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def on_stop(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at each wish to stop."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """Wish to stop."""
        if self.wanted.is_set():
            self.again.set()
        self.wanted.set()
        for listener in list(self._listeners):
            listener()

    async def sleep(self, seconds: float) -> bool:
        """Sleep, but not beyond a wish to stop; tell whether there is one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wanted.wait()
        return self.wanted.is_set()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stopping]:
    """Turn SIGTERM, Ctrl-C and the closing of the terminal into a wish to stop."""
    stopping = Stopping()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else: `nohup goqueue …`
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stopping.stop)
    try:
        yield stopping
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            # Until the process has ended, the second Ctrl-C of an impatient hand must not show a traceback.
            signal.signal(number, signal.SIG_IGN)


def run_loop(main: Coroutine[object, object, T]) -> T:
    """Run ``main`` on the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def open_when_there(store: Store, stopping: Stopping) -> bool:
    """Open a store; while it is away, say so and try again. False when a stop came before it was open.

    Raises `SchemaError` and whatever else waiting does not change.
    """
    told, bound_s = "", RETRY_S
    while not stopping.wanted.is_set():
        try:
            await store.schema()  # one connection, and the reason if there is none
            await store.open()
        except StoreUnavailable as error:
            if str(error) != told:
                told = str(error)
                log.warning("wait", reason="the store is unavailable", error=told)
            # By chance, so that many processes do not come back to it at the same instant; never quite at once.
            await stopping.sleep(max(0.05, bound_s * random.random()))  # noqa: S311
            bound_s = min(RETRY_MAX_S, bound_s * 2)
        else:
            if told:
                log.info("resume")
            break
    return not stopping.wanted.is_set()  # it may have come while the store was being opened


def tell_store(store: Store, *, quietly: bool = False) -> None:
    """Log what an open store can promise. Before it is open it does not know whether wake-ups are pushed."""
    import msgspec

    (log.debug if quietly else log.info)("store", **msgspec.structs.asdict(store.capabilities))


def override(group: str, settings: S, **flags: object) -> S:
    """Return settings with what was given on the command line (None: not given). Raises `InvalidSetting`."""
    import msgspec

    given = {name: value for name, value in flags.items() if value is not None}
    if not given:
        return settings
    values = {field.name: getattr(settings, field.name) for field in msgspec.structs.fields(settings)}
    try:
        return msgspec.convert({**values, **given}, type(settings))
    except msgspec.ValidationError as error:
        raise InvalidSetting(f"{group}: {error}") from None


def check_address(doors: Doors, settings: ServerSettings) -> None:
    """Refuse, before anything has been started, an address that must not or cannot be bound."""
    doors.check_address(settings)
    host, port = settings.host, settings.port
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): "
            "choose another port with --port (0 picks a free one)"
        ) from None
