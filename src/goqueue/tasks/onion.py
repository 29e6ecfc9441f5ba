"""The layers of `goqueue.tasks.middleware`, pumped: around one run, and around the jobs of one enqueue."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeAlias, TypeVar

from goqueue.model.errors import Conflict, DefinitionError, MiddlewareError
from goqueue.model.job import NewJob
from goqueue.tasks.middleware import Middleware

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence

    from goqueue.model.query import Enqueued
    from goqueue.tasks.context import Context

T = TypeVar("T")
Given = TypeVar("Given")

LAYERS_MAX: Final = 32
"""Middleware of one application."""

Layers: TypeAlias = "tuple[Middleware, ...]"
"""Outermost first."""


def check(middleware: Iterable[Middleware]) -> Layers:
    """Return what an application was given. Raises `DefinitionError`."""
    if isinstance(middleware, Middleware):
        raise DefinitionError(f"middleware takes a list: write middleware=[{type(middleware).__name__}(...)]")
    layers = tuple(middleware)
    for one in layers:
        if isinstance(one, type):
            raise DefinitionError(f"middleware takes instances, {one.__name__} is a class: write {one.__name__}()")
        if not isinstance(one, Middleware):
            raise DefinitionError(f"middleware takes instances of goqueue.Middleware, {one!r} is none")
    if len(layers) > LAYERS_MAX:
        raise DefinitionError(f"an application has at most {LAYERS_MAX} middleware, not {len(layers)}")
    return layers


def around_run(layers: Layers) -> Layers:
    """Return those that do something around a run."""
    return tuple(one for one in layers if getattr(one.run, "__func__", None) is not Middleware.run)


def around_enqueue(layers: Layers) -> Layers:
    """Return those that do something around an enqueue."""
    return tuple(one for one in layers if getattr(one.enqueue, "__func__", None) is not Middleware.enqueue)


# -- around a run ---------------------------------------------------------------------------------

Opened: TypeAlias = "list[_Open[None]]"
"""The layers of a run that were entered, outermost first."""


def call(layers: Layers, ctx: Context[Any], function: Callable[[], object]) -> object:
    """Call ``function`` inside the layers; return or raise what comes out of them."""
    opened: Opened = []
    returned: object = None
    raised = enter(layers, ctx, opened)
    if raised is None:
        try:
            returned = function()
        except BaseException as error:
            raised = error
    return leave(opened, returned, raised)


async def call_async(layers: Layers, ctx: Context[Any], function: Callable[[], Awaitable[object]]) -> object:
    """Await what ``function`` makes inside the layers; return or raise what comes out of them."""
    opened: Opened = []
    returned: object = None
    raised = enter(layers, ctx, opened)
    if raised is None:
        try:
            returned = await function()
        except BaseException as error:
            raised = error
    return leave(opened, returned, raised)


def enter(layers: Layers, ctx: Context[Any], opened: Opened) -> BaseException | None:
    """Run each layer up to its yield, from outside. What one raises there, those around it see at their yields."""
    for layer in layers:
        one: _Open[None] = _Open(layer, "run")
        try:
            one.start(layer.run(ctx))
        except BaseException as error:
            return error
        opened.append(one)
    return None


def leave(opened: Opened, returned: object, raised: BaseException | None) -> object:
    """Run each layer to its end, from inside; return or raise what comes out of them."""
    for one in reversed(opened):
        if raised is None:
            raised = one.give(returned)
            returned = None if raised is not None else returned
        else:
            raised = one.throw(raised)
            returned = None
    if raised is not None:
        raise raised
    return returned


# -- around an enqueue ----------------------------------------------------------------------------


class Around:
    """The layers around the jobs of one enqueue. Opened and ended where the caller is: it awaits nothing."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._jobs: list[list[_Open[NewJob[Any]]]] = []

    def open(self, job: NewJob[T]) -> NewJob[T]:
        """Return the job as the layers want it stored. Raises what they raise."""
        opened: list[_Open[NewJob[Any]]] = []
        self._jobs.append(opened)
        for layer in self._layers:
            one: _Open[NewJob[Any]] = _Open(layer, "enqueue")
            wanted: object = one.start(layer.enqueue(job))
            opened.append(one)
            if not isinstance(wanted, NewJob):
                raise MiddlewareError(f"{one.name} must yield the job, it yielded {type(wanted).__name__}")
            job = wanted
        return job

    def end(self, answers: Sequence[Enqueued | Conflict]) -> list[Conflict | None]:
        """Give each job's layers its answer, or raise its conflict in them; return the conflicts that come out.

        Raises the first error of the layers themselves, after all have ended: their jobs are stored.
        """
        jobs, self._jobs = self._jobs, []
        conflicts: list[Conflict | None] = []
        broken: BaseException | None = None
        for opened, answer in zip(jobs, answers, strict=True):
            raised = _end_one(opened, answer)
            conflicts.append(raised if isinstance(raised, Conflict) else None)
            if raised is not None and not isinstance(raised, Conflict):
                broken = broken or raised
        if broken is not None:
            broken.add_note("It came from a middleware after the enqueue: the jobs are stored.")
            raise broken
        return conflicts

    def fail(self, error: BaseException) -> NoReturn:
        """Raise ``error`` in the layers of all jobs, and what comes out of those of the first."""
        jobs, self._jobs = self._jobs, []
        place = error.__traceback__
        out = error
        for i, opened in enumerate(jobs):
            error.__traceback__ = place  # else it would grow with each job
            raised = _fail_one(opened, error)
            out = raised if i == 0 else out
        if out is error:
            out.__traceback__ = place
        raise out

    def close(self) -> None:
        """End the layers of jobs that are not sent. Idempotent."""
        jobs, self._jobs = self._jobs, []
        for opened in jobs:
            for one in reversed(opened):
                one.close()


def _end_one(opened: Sequence[_Open[NewJob[Any]]], answer: Enqueued | Conflict) -> BaseException | None:
    if isinstance(answer, Conflict):
        return _fail_one(opened, answer)
    raised: BaseException | None = None
    for one in reversed(opened):
        raised = one.give(answer) if raised is None else one.throw(raised) or raised
    return raised


def _fail_one(opened: Sequence[_Open[NewJob[Any]]], error: BaseException) -> BaseException:
    for one in reversed(opened):
        error = one.throw(error) or error
    return error


# -- one layer ------------------------------------------------------------------------------------


class _Open(Generic[Given]):
    """One layer's generator, between its start and its end."""

    __slots__ = ("_generator", "name")

    def __init__(self, layer: Middleware, method: str) -> None:
        self.name = f"{type(layer).__qualname__}.{method}"
        self._generator: Generator[Given, Any, None] | None = None  # what is sent: a result, or an answer

    def start(self, made: Generator[Given, Any, None]) -> Given:
        """Run it up to its yield. Raises what it raises."""
        if not hasattr(made, "throw"):
            raise MiddlewareError(f"{self.name} must be a generator: it has no yield")
        try:
            given = next(made)
        except StopIteration:
            raise MiddlewareError(f"{self.name} ended before its yield: it must yield once") from None
        self._generator = made
        return given

    def give(self, value: object) -> BaseException | None:
        """Go on with what came back, to the end; return what it raises."""
        if self._generator is None:
            return None
        try:
            self._generator.send(value)
        except StopIteration:
            return None
        except BaseException as error:
            return error
        return self._twice()

    def throw(self, raised: BaseException) -> BaseException | None:
        """Raise this at its yield; return what it raises: the same, another, or nothing."""
        if self._generator is None:
            return raised
        place = raised.__traceback__
        try:
            self._generator.throw(raised)
        except StopIteration:
            return None
        except BaseException as error:
            if error is raised or (isinstance(raised, StopIteration) and error.__cause__ is raised):
                return raised.with_traceback(place)  # it only went through: that is no part of its story
            return error
        twice = self._twice()
        twice.__cause__ = raised
        return twice

    def close(self) -> None:
        """End it without an answer."""
        if self._generator is not None:
            with contextlib.suppress(Exception):  # there is nobody to tell
                self._generator.close()

    def _twice(self) -> MiddlewareError:
        self.close()
        return MiddlewareError(f"{self.name} yielded twice: it must yield once")
