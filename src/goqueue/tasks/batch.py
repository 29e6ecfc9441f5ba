"""`BatchTask`: one call of its function works on up to N jobs, and has a result for each."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, Union, get_args, get_origin

import msgspec

from goqueue.model.errors import DefinitionError
from goqueue.tasks.context import Context
from goqueue.tasks.signature import Signature, hints_of
from goqueue.tasks.task import Task, TaskOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from goqueue.model.job import NewJob

S = TypeVar("S", covariant=True)
T = TypeVar("T", contravariant=True)
R = TypeVar("R", covariant=True)
V = TypeVar("V")
Call = ParamSpec("Call")
Returned = TypeVar("Returned", covariant=True)

SIZE_MAX: Final = 1_000
WAIT_S_MAX: Final = 60.0


class BatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When what has gathered is run."""

    max_size: int
    max_wait_s: float
    """From the first job that waits."""
    item: str
    """The name of the one argument of each job."""


class BatchMismatch(Exception):
    """A batch handler did not return one result for each job: nobody knows which result is whose."""


class BatchContext(Generic[S]):
    """Handed to a batch handler whose first parameter is annotated with it. ``items`` has the context of each job.

    ``S`` is what the application's lifespan yields.
    """

    __slots__ = ("items", "state")

    def __init__(self, state: S, items: Sequence[Context[S]]) -> None:
        self.state = state
        self.items = tuple(items)
        """In the order of the jobs: ids, attempts, `Context.cancelled`, `Context.progress` … of each."""

    @property
    def cancelled(self) -> bool:
        """Whether the whole call shall stop: no job of it is wanted from here any more."""
        return all(item.cancelled for item in self.items)

    def raise_if_cancelled(self) -> None:
        """Raise ``asyncio.CancelledError``, as an async handler is sent, if the whole call shall stop."""
        if self.cancelled:
            raise asyncio.CancelledError("all jobs of this batch shall stop")

    def run(self, work: Coroutine[object, object, V]) -> V:
        """Await ``work`` on the worker's event loop from a plain function; see `Context.run`."""
        return self.items[0].run(work)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<BatchContext of {len(self)} jobs>"


class BatchTask(Task[[T], R], Generic[T, R]):
    """A definition: ``task.job(item)`` builds a job of it, for one item. Made by ``@app.batch_task``.

    ``T`` is what an item is, ``R`` is its result. The arguments of a job are ``{"item": …}``.
    """

    batch: BatchOptions

    def __init__(self, function: Callable[..., object], kind: str, options: TaskOptions, batch: BatchOptions) -> None:
        _check_options(kind, batch)
        self.batch = batch
        self._shape: _Shape | None = None
        super().__init__(function, kind, options)
        self.is_async = False  # it is not started as it is, for one job
        self.calls_async = inspect.iscoroutinefunction(function)
        """Whether the call is awaited on the loop; a plain function has a thread."""
        self._alone = _Alone(self, options)

    @property
    def alone(self) -> Task[..., object]:
        """The same as a task for one job at a time: it calls the function with a batch of one."""
        return self._alone

    @property
    def wants_batch_context(self) -> bool:
        """Whether the function takes a `BatchContext` as its first argument."""
        return self._shaped().wants_context

    def job(self, item: T, /) -> NewJob[R]:
        """Build a job for one item. Nothing is stored: give it to a client.

        Raises `InvalidArguments` for what does not fit the annotation or cannot be kept as JSON.
        """
        return super().job(item)

    def decode_item(self, args: bytes) -> object:
        """Decode the stored arguments of a job to its item. Raises `InvalidArguments`."""
        return self.decode(args)[self.batch.item]

    def _make_signature(self) -> Signature:
        """That of a function which takes one item."""
        shape = self._shaped()
        return Signature(_function_of(self.batch.item, shape.item, shape.result), self.kind)

    def _shaped(self) -> _Shape:
        if self._shape is None:
            self._shape = _Shape(self.function, self.kind)
        return self._shape

    def __repr__(self) -> str:
        return f"<BatchTask {self.kind}>"


class CallableBatchTask(BatchTask[T, R], Generic[T, R, Call, Returned]):
    """What ``@app.batch_task`` makes of a function: a `BatchTask` that still can be called as the function."""

    function: Callable[Call, Returned]

    def __call__(self, *args: Call.args, **kwargs: Call.kwargs) -> Returned:
        """Run the function here and now, as if it were not a task."""
        return self.function(*args, **kwargs)


class _Alone(Task[..., object]):
    """A batch task as a plain one: for a job that runs by itself, in a process of its own."""

    def __init__(self, task: BatchTask[Any, object], options: TaskOptions) -> None:
        self._task = task

        def one(context: Context[object], **arguments: object) -> object:
            return _only(task.function(*self._arguments(context, arguments)))

        async def one_async(context: Context[object], **arguments: object) -> object:
            made: Any = task.function(*self._arguments(context, arguments))  # calls_async says that it can be awaited
            return _only(await made)

        super().__init__(one_async if task.calls_async else one, task.kind, options)

    @property
    def wants_context(self) -> bool:
        """Always: the batch may want it."""
        return True

    def _make_signature(self) -> Signature:
        return self._task.signature

    def _arguments(self, context: Context[object], arguments: dict[str, object]) -> list[object]:
        (item,) = arguments.values()
        contexts = [BatchContext(context.state, [context])] if self._task.wants_batch_context else []
        return [*contexts, [item]]


def results_of(returned: object, jobs: int) -> list[object]:
    """Return what a batch handler returned as one result for each job. Raises `BatchMismatch`, and what they raise."""
    if not isinstance(returned, Sequence) or isinstance(returned, str | bytes | bytearray):
        raise BatchMismatch(
            f"it returned {type(returned).__name__}: a batch handler returns a list with one result for each job,"
            " in their order"
        )
    if len(returned) != jobs:
        raise BatchMismatch(
            f"it returned {len(returned)} results for {jobs} jobs: a batch handler returns one for each, in their"
            " order, and an exception in the place of a job that failed"
        )
    return list(returned)  # here and once: those that are made when they are looked at may raise


def _only(returned: object) -> object:
    (result,) = results_of(returned, 1)
    if isinstance(result, BaseException):
        raise result
    return result


class _Shape:
    """What a batch handler takes and returns for one job. Raises `DefinitionError`."""

    def __init__(self, function: Callable[..., object], kind: str) -> None:
        hints = hints_of(function, kind)
        parameters = list(inspect.signature(function).parameters.values())
        self.wants_context = bool(parameters) and _is(hints.get(parameters[0].name), BatchContext)
        if self.wants_context:
            del parameters[0]
        if any(_is(hints.get(one.name), Context) for one in parameters):
            raise DefinitionError(f"task {kind!r}: a batch handler takes a BatchContext, which has the Context of each")
        if len(parameters) != 1 or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise DefinitionError(
                f"task {kind!r}: a batch handler takes one argument, a list of items (after a BatchContext, if any)"
            )
        self.item = _element(hints.get(parameters[0].name, Any), kind, "its argument must be annotated")
        self.result = _element(hints.get("return", Any), kind, "its result must be annotated")
        if get_origin(self.result) in (Union, UnionType):
            kept = tuple(one for one in get_args(self.result) if not _is_error(one))
            self.result = Union[kept] if kept else None  # noqa: UP007  made at run time
        elif _is_error(self.result):
            self.result = None


def _element(hint: object, kind: str, what: str) -> object:
    if hint is Any or hint is list or hint is Sequence:
        return Any
    arguments = get_args(hint)
    if get_origin(hint) in (list, Sequence) and len(arguments) == 1:
        return arguments[0]
    raise DefinitionError(f"task {kind!r}: {what} as a list or Sequence: one element for each job; is {hint!r}")


def _is(hint: object, wanted: type) -> bool:
    return hint is wanted or get_origin(hint) is wanted


def _is_error(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseException)


def _function_of(name: str, item: object, result: object) -> Callable[..., object]:
    """Make a function with this signature; it is never called."""

    def one() -> None:
        raise NotImplementedError

    one.__annotations__ = {name: item, "return": result}
    parameter = inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=item)
    one.__signature__ = inspect.Signature([parameter], return_annotation=result)  # type: ignore[attr-defined]  # known
    return one


def _check_options(kind: str, batch: BatchOptions) -> None:
    if type(batch.max_size) is not int or not 1 <= batch.max_size <= SIZE_MAX:
        raise DefinitionError(f"task {kind!r}: max_size must be a whole number from 1 to {SIZE_MAX}")
    wait_s: object = batch.max_wait_s
    if not isinstance(wait_s, int | float) or isinstance(wait_s, bool) or not math.isfinite(wait_s):
        raise DefinitionError(f"task {kind!r}: max_wait_s must be a number of seconds")
    if not 0 <= wait_s <= WAIT_S_MAX:
        raise DefinitionError(f"task {kind!r}: max_wait_s must be from 0 to {WAIT_S_MAX:g} seconds, is {wait_s:g}")
    if not batch.item.isidentifier():
        raise DefinitionError(f"task {kind!r}: item must be a name, is {batch.item!r}")
