"""`GoQueue`: the application's list of tasks. Definitions only; importing it opens nothing."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, Never, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from goqueue.model import limits
from goqueue.model.errors import DefinitionError, DuplicateTask, UnknownTask
from goqueue.model.job import DEFAULT_QUEUE, unknown_option
from goqueue.tasks import onion
from goqueue.tasks.batch import BatchOptions, CallableBatchTask
from goqueue.tasks.retry import DEFAULT_RETRY, RetryPolicy
from goqueue.tasks.task import CallableTask, RunIn, Task, TaskOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from goqueue.model.job import Json, Unique
    from goqueue.tasks.batch import BatchContext
    from goqueue.tasks.context import Context
    from goqueue.tasks.middleware import Middleware

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Lifespan: TypeAlias = "Callable[[], AbstractAsyncContextManager[object]]"
AnyTask: TypeAlias = "Task[..., object]"


class TaskDecorator(Protocol):
    """What ``@app.task(...)`` returns. A first parameter annotated `Context` is no argument of the job."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context[S], P], Coroutine[Any, Any, R]], /
    ) -> CallableTask[P, R, Concatenate[Context[S], P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context[S], P], R], /
    ) -> CallableTask[P, R, Concatenate[Context[S], P], R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CallableTask[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> CallableTask[P, R, P, R]: ...


class BatchDecorator(Protocol):
    """What ``@app.batch_task(...)`` returns. An item of the result may be an exception: that job alone has failed."""

    @overload
    def __call__(
        self, function: Callable[[BatchContext[S], list[T]], Coroutine[Any, Any, Sequence[R | Exception]]], /
    ) -> CallableBatchTask[T, R, [BatchContext[S], list[T]], Coroutine[Any, Any, Sequence[R | Exception]]]: ...
    @overload
    def __call__(
        self, function: Callable[[BatchContext[S], list[T]], Sequence[R | Exception]], /
    ) -> CallableBatchTask[T, R, [BatchContext[S], list[T]], Sequence[R | Exception]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, Sequence[R | Exception]]], /
    ) -> CallableBatchTask[T, R, [list[T]], Coroutine[Any, Any, Sequence[R | Exception]]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Sequence[R | Exception]], /
    ) -> CallableBatchTask[T, R, [list[T]], Sequence[R | Exception]]: ...


class GoQueue:
    """The tasks of an application, by kind.

    ``retry`` is the policy of tasks that name none. ``lifespan`` is a function without arguments that makes an async
    context manager (``contextlib.asynccontextmanager`` around an async generator that yields once): each worker
    process, and each child of ``run_in="process"``, enters it before its first job and leaves it after its last. What
    it yields is ``Context.state``. ``middleware`` goes around every run and every enqueue, the first outermost
    (`Middleware`).
    """

    def __init__(
        self,
        *,
        name: str = "",
        retry: RetryPolicy = DEFAULT_RETRY,
        lifespan: Lifespan | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.name = name
        self.retry = retry
        if lifespan is not None and not callable(lifespan):
            raise DefinitionError(
                f"lifespan takes a function that makes an async context manager, {lifespan!r} is none"
            )
        self.lifespan = lifespan
        self.middleware = onion.check(middleware)
        self._tasks: dict[str, AnyTask] = {}
        self._runs: dict[str, AnyTask] = {}

    @property
    def tasks(self) -> Mapping[str, AnyTask]:
        """All tasks by kind; a view that cannot be written to."""
        return MappingProxyType(self._tasks)

    @property
    def runs(self) -> Mapping[str, AnyTask]:
        """The task that runs jobs of a kind, by kind and by alias; a view that cannot be written to."""
        return MappingProxyType(self._runs)

    @property
    def kinds(self) -> frozenset[str]:
        """All kinds that its tasks run, aliases included."""
        return frozenset(self._runs)

    @overload
    def task(
        self, function: Callable[Concatenate[Context[S], P], Coroutine[Any, Any, R]], /
    ) -> CallableTask[P, R, Concatenate[Context[S], P], Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[Context[S], P], R], /
    ) -> CallableTask[P, R, Concatenate[Context[S], P], R]: ...
    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CallableTask[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> CallableTask[P, R, P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        kind: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = limits.PRIORITY_DEFAULT,
        max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT,
        max_crashes: int = limits.MAX_CRASHES_DEFAULT,
        timeout_s: float | None = None,
        schedule_to_start_s: float | None = None,
        deadline_s: float | None = None,
        retry: RetryPolicy | None = None,
        run_in: RunIn = "auto",
        unique: Unique | bool | str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        version: int = 1,
        aliases: Sequence[str] = (),
    ) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., object] | None = None,
        /,
        *,
        kind: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = limits.PRIORITY_DEFAULT,
        max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT,
        max_crashes: int = limits.MAX_CRASHES_DEFAULT,
        timeout_s: float | None = None,
        schedule_to_start_s: float | None = None,
        deadline_s: float | None = None,
        retry: RetryPolicy | None = None,
        run_in: RunIn = "auto",
        unique: Unique | bool | str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        version: int = 1,
        aliases: Sequence[str] = (),
        **unknown: object,
    ) -> object:
        """Make a function a task: ``@app.task`` or ``@app.task(queue=…, …)``. Its kind is its name or ``kind``.

        ``timeout_s`` is for one attempt, ``schedule_to_start_s`` for the wait of a due job until it is started,
        ``deadline_s`` for all of it, from the enqueue to the end. ``retry`` says when failed attempts are repeated.
        ``version`` is that of the arguments: see `Task.upcast`. ``aliases`` are kinds that it had before: jobs of these
        are run, too.
        Raises `DuplicateTask` for a kind that is taken, `UnknownOption`, `DefinitionError` for what cannot be a task.
        """
        if unknown:
            raise unknown_option("@app.task", unknown, cast("Any", type(self).task).__kwdefaults__)
        options = TaskOptions(
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            max_crashes=max_crashes,
            timeout_s=timeout_s,
            schedule_to_start_s=schedule_to_start_s,
            deadline_s=deadline_s,
            retry=self.retry if retry is None else retry,
            run_in=run_in,
            unique=unique,
            tags=tuple(tags),
            meta=dict(meta or {}),
            version=version,
            aliases=tuple(aliases),
        )

        def define(function: Callable[..., object]) -> CallableTask[..., object, ..., object]:
            named = kind if kind is not None else getattr(function, "__name__", "")
            task: CallableTask[..., object, ..., object] = CallableTask(function, named, options)
            self._add(task)
            return task

        return define if function is None else define(function)

    def batch_task(
        self,
        *,
        max_size: int = 100,
        max_wait_s: float = 0.05,
        item: str = "item",
        kind: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = limits.PRIORITY_DEFAULT,
        max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT,
        max_crashes: int = limits.MAX_CRASHES_DEFAULT,
        timeout_s: float | None = None,
        schedule_to_start_s: float | None = None,
        deadline_s: float | None = None,
        retry: RetryPolicy | None = None,
        unique: Unique | bool | str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        **unknown: Never,
    ) -> BatchDecorator:
        """Make a function of a list of items a task: one call for up to ``max_size`` jobs, with a result for each.

        ``task.job(item)`` is a job for one item, with the arguments ``{"item": …}``, or another name for it. A worker
        gathers them, for at most ``max_wait_s`` seconds from the first. ``timeout_s`` counts from the start of the
        call. The other options are those of `task`; batches do not run in child processes.
        """
        if unknown:
            raise unknown_option("@app.batch_task", unknown, type(self).batch_task.__kwdefaults__ or {})
        options = TaskOptions(
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            max_crashes=max_crashes,
            timeout_s=timeout_s,
            schedule_to_start_s=schedule_to_start_s,
            deadline_s=deadline_s,
            retry=self.retry if retry is None else retry,
            unique=unique,
            tags=tuple(tags),
            meta=dict(meta or {}),
        )
        batch = BatchOptions(max_size=max_size, max_wait_s=max_wait_s, item=item)

        def define(function: Callable[..., Any]) -> Any:  # the overloads of `BatchDecorator` say it precisely
            named = kind if kind is not None else getattr(function, "__name__", "")
            task: CallableBatchTask[Any, Any, ..., Any] = CallableBatchTask(function, named, options, batch)
            self._add(task)
            return task

        return define

    def include(self, other: GoQueue) -> None:
        """Add the tasks that ``other`` has now, as they are, or none. Raises `DuplicateTask` if a kind is taken.

        Around them goes the middleware of this application: that of ``other`` stays behind.
        """
        if other.lifespan is not None and other.lifespan is not self.lifespan:
            raise DefinitionError("an application has one lifespan: enter that of the included one inside your own")
        for kind, task in other.runs.items():
            if self._runs.get(kind, task) is not task:
                raise _duplicate(kind, task, self._runs[kind])
        self._tasks.update(other.tasks)
        self._runs.update(other.runs)

    def live(self) -> AbstractAsyncContextManager[object]:
        """Make what a process enters before its first job and leaves after its last; it yields ``Context.state``.

        Raises `DefinitionError` for a lifespan that makes something else.
        """
        if self.lifespan is None:
            return nullcontext()
        try:
            made = self.lifespan()
        except TypeError as e:
            raise DefinitionError(f"the lifespan is called without arguments, which has failed: {e}") from e
        if not isinstance(made, AbstractAsyncContextManager):
            raise DefinitionError(
                f"the lifespan makes a {type(made).__name__}, which is no async context manager: decorate an async"
                " function that yields once with contextlib.asynccontextmanager"
            )
        return made

    def find(self, kind: str) -> AnyTask:
        """Return the task that runs this kind. Raises `UnknownTask`."""
        try:
            return self._runs[kind]
        except KeyError:
            known = ", ".join(sorted(self._runs)) or "none"
            raise UnknownTask(f"no task of kind {kind!r} is defined; there are: {known}") from None

    def check(self) -> None:
        """Resolve annotations that were left for later, and look whether upcasters are missing.

        Raises `DefinitionError`. A worker calls it at its start.
        """
        for task in self._tasks.values():
            task.check()

    def schemas(self) -> dict[str, Json]:
        """Return the JSON Schema (2020-12) of arguments and result of each task, by kind: see `Task.schema`."""
        return {kind: task.schema() for kind, task in sorted(self._tasks.items())}

    def _add(self, task: AnyTask) -> None:
        for kind in (task.kind, *task.aliases):
            if kind in self._runs:
                raise _duplicate(kind, task, self._runs[kind])
        self._tasks[task.kind] = task
        self._runs.update(dict.fromkeys((task.kind, *task.aliases), task))

    def __repr__(self) -> str:
        return f"<GoQueue {self.name or 'app'}: {len(self._tasks)} tasks>"


def _duplicate(kind: str, task: AnyTask, holder: AnyTask) -> DuplicateTask:
    places = [f"{t.function.__module__}.{t.function.__qualname__}" for t in (holder, task)]
    return DuplicateTask(f"two tasks have the kind {kind!r}: {places[0]} and {places[1]}; give one of them kind=")
