"""`GoQueue`: the application's list of tasks. Definitions only; importing it opens nothing."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from goqueue.model import limits
from goqueue.model.errors import DefinitionError, DuplicateTask, UnknownTask
from goqueue.model.job import DEFAULT_QUEUE, unknown_option
from goqueue.tasks.retry import DEFAULT_RETRY, RetryPolicy
from goqueue.tasks.task import CallableTask, RunIn, Task, TaskOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from goqueue.model.job import Unique
    from goqueue.tasks.context import Context

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

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


class GoQueue:
    """The tasks of an application, by kind.

    ``retry`` is the policy of tasks that name none. ``lifespan`` makes an async context manager that each worker
    process enters before its first job and leaves after its last; what it yields is ``Context.state``.
    """

    def __init__(self, *, name: str = "", retry: RetryPolicy = DEFAULT_RETRY, lifespan: Lifespan | None = None) -> None:
        self.name = name
        self.retry = retry
        self.lifespan = lifespan
        self._tasks: dict[str, AnyTask] = {}

    @property
    def tasks(self) -> Mapping[str, AnyTask]:
        """All tasks by kind; a view that cannot be written to."""
        return MappingProxyType(self._tasks)

    @property
    def kinds(self) -> frozenset[str]:
        """All kinds that its tasks run."""
        return frozenset(self._tasks)

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
        **unknown: object,
    ) -> object:
        """Make a function a task: ``@app.task`` or ``@app.task(queue=…, …)``. Its kind is its name or ``kind``.

        ``timeout_s`` is for one attempt, ``schedule_to_start_s`` for the wait of a due job until it is started,
        ``deadline_s`` for all of it, from the enqueue to the end. ``retry`` says when failed attempts are repeated.
        Raises `DuplicateTask` for a kind that is taken, `UnknownOption`, `DefinitionError` for what cannot be a task.
        """
        if unknown:
            raise unknown_option("@app.task", unknown, {"kind", *TaskOptions.__struct_fields__})
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
        )

        def define(function: Callable[..., object]) -> CallableTask[..., object, ..., object]:
            named = kind if kind is not None else getattr(function, "__name__", "")
            task: CallableTask[..., object, ..., object] = CallableTask(function, named, options)
            self._add(task)
            return task

        return define if function is None else define(function)

    def include(self, other: GoQueue) -> None:
        """Add the tasks that ``other`` has now, as they are, or none. Raises `DuplicateTask` if a kind is taken."""
        if other.lifespan is not None and other.lifespan is not self.lifespan:
            raise DefinitionError("an application has one lifespan: enter that of the included one inside your own")
        for kind, task in other.tasks.items():
            if self._tasks.get(kind, task) is not task:
                raise _duplicate(task, self._tasks[kind])
        self._tasks.update(other.tasks)

    def find(self, kind: str) -> AnyTask:
        """Return the task of this kind. Raises `UnknownTask`."""
        try:
            return self._tasks[kind]
        except KeyError:
            known = ", ".join(sorted(self._tasks)) or "none"
            raise UnknownTask(f"no task of kind {kind!r} is defined; there are: {known}") from None

    def check(self) -> None:
        """Resolve annotations that were left for later. Raises `DefinitionError`. A worker calls it at its start."""
        for task in self._tasks.values():
            _ = task.signature

    def _add(self, task: AnyTask) -> None:
        if task.kind in self._tasks:
            raise _duplicate(task, self._tasks[task.kind])
        self._tasks[task.kind] = task

    def __repr__(self) -> str:
        return f"<GoQueue {self.name or 'app'}: {len(self._tasks)} tasks>"


def _duplicate(task: AnyTask, holder: AnyTask) -> DuplicateTask:
    places = [f"{t.function.__module__}.{t.function.__qualname__}" for t in (holder, task)]
    return DuplicateTask(f"two tasks have the kind {task.kind!r}: {places[0]} and {places[1]}; give one of them kind=")
