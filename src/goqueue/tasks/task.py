"""`Task`: a function that can be stored as a job. A definition; it does no I/O."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar

import msgspec

from goqueue.model import limits
from goqueue.model.errors import DefinitionError, InvalidJob
from goqueue.model.job import DEFAULT_QUEUE, NewJob, Unique
from goqueue.tasks import encoding
from goqueue.tasks.prepare import prepare
from goqueue.tasks.retry import DEFAULT_RETRY, RetryPolicy
from goqueue.tasks.schema import DIALECT, schema_of
from goqueue.tasks.signature import Signature, UnresolvedAnnotation
from goqueue.tasks.versions import Versions, check_version, marked

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.model.job import Json
    from goqueue.tasks.batch import BatchOptions
    from goqueue.tasks.context import Context
    from goqueue.tasks.versions import Upcaster

P = ParamSpec("P")
Call = ParamSpec("Call")
R = TypeVar("R", covariant=True)
Returned = TypeVar("Returned", covariant=True)

RunIn: TypeAlias = Literal["auto", "process"]
"""``auto``: async functions on the event loop, plain ones in a thread. ``process``: in a child process."""


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a definition says about its jobs; ``NewJob.options`` overrides it for one job."""

    queue: str = DEFAULT_QUEUE
    priority: int = limits.PRIORITY_DEFAULT
    max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT
    max_crashes: int = limits.MAX_CRASHES_DEFAULT
    timeout_s: float | None = None
    schedule_to_start_s: float | None = None
    deadline_s: float | None = None
    unique: Unique | bool | str | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    retry: RetryPolicy = DEFAULT_RETRY
    version: int = 1
    aliases: tuple[str, ...] = ()
    run_in: RunIn = "auto"


class Task(Generic[P, R]):
    """A definition: ``task.job(...)`` builds a job of it. ``P`` are its arguments, ``R`` is its result.

    Made by ``@app.task``. Calling what the decorator returns runs the function, here and now.
    """

    batch: BatchOptions | None = None
    """Not None: one call is for many jobs; see `goqueue.tasks.batch`."""

    def __init__(self, function: Callable[..., object], kind: str, options: TaskOptions) -> None:
        _check_function(function, kind)
        batch = self.batch
        functools.update_wrapper(self, function)  # type: ignore[arg-type]  # mypy wants self callable: the subclass is
        if options.run_in not in ("auto", "process"):
            raise DefinitionError(f"task {kind!r}: run_in must be 'auto' or 'process', is {options.run_in!r}")
        check_version(options.version, kind)
        self.batch = batch  # whatever attributes the function has
        self.function = function
        self.kind = kind
        self.is_async = inspect.iscoroutinefunction(function)
        self.run_in: RunIn = options.run_in
        self.retry = options.retry
        self.timeout_s = options.timeout_s
        self.version = options.version
        self.aliases = options.aliases
        self._versions = Versions(kind, options.version)
        self._template: NewJob[R] = _template(kind, options)
        self._signature: Signature | None = None
        # A name that is not found is perhaps defined further down in the module: `signature` asks again.
        with contextlib.suppress(UnresolvedAnnotation):
            self._signature = self._make_signature()

    @property
    def signature(self) -> Signature:
        """Its parameters as a codec. Raises `DefinitionError` for annotations that cannot be resolved."""
        if self._signature is None:
            self._signature = self._make_signature()
        return self._signature

    @property
    def alone(self) -> Task[..., object]:
        """The task as it runs for one job by itself, with a `Context`: this one, unless it is for batches."""
        return self

    @property
    def wants_context(self) -> bool:
        """Whether the function takes a `Context` as its first argument."""
        return self.signature.wants_context

    @property
    def returns(self) -> object:
        """The annotated type of the result; None if there is no annotation."""
        return self.signature.returns

    @property
    def queue(self) -> str:
        """The queue that its jobs go to unless they say otherwise."""
        return self._template.queue

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob[R]:
        """Build a job with these arguments. Nothing is stored: give it to a client.

        Raises `InvalidArguments` for what does not fit the signature or cannot be kept as JSON.
        """
        signature = self._signature or self.signature
        return msgspec.structs.replace(self._template, args=signature.encode(args, kwargs), returns=signature.returns)

    def upcast(self, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Decorate a function that turns arguments of ``from_version`` (a dict of JSON types) into those of the next.

        Jobs that were stored by older versions are lifted by these functions, one after the other, when they run. What
        one of them raises is a failed attempt, as are arguments that do not fit. Raises `DefinitionError`.
        """

        def add(upcaster: Upcaster) -> Upcaster:
            self._versions.add(from_version, upcaster)
            return upcaster

        return add

    def check(self) -> None:
        """Resolve annotations that were left for later, and look whether upcasters are missing."""
        _ = self.signature
        self._versions.check()

    def schema(self) -> dict[str, Json]:
        """Return the JSON Schema (2020-12) of its arguments and of its result, as they are stored.

        Raises `DefinitionError` if a type has none.
        """
        try:
            args = schema_of(self.signature.arguments, "validation")
            result: Json = {"$schema": DIALECT} if self.returns is None else schema_of(self.returns, "serialization")
        except Exception as e:  # a model's own schema may raise anything
            raise DefinitionError(f"task {self.kind!r}: no JSON Schema can be made of it: {e}") from e
        return {"version": self.version, "aliases": list(self.aliases), "args": args, "result": result}

    def lift(self, args: bytes, meta: bytes | None) -> bytes:
        """Return stored arguments as those of the present version. Raises `InvalidArguments`."""
        return self._versions.lift(args, meta)

    def decode(self, args: bytes) -> dict[str, object]:
        """Decode stored arguments to keyword arguments for `function`. Raises `InvalidArguments`."""
        return (self._signature or self.signature).decode(args)

    def call(self, ctx: Context[Any], args: bytes, meta: bytes | None) -> object:
        """Call `function` with a job's arguments. Raises `InvalidArguments`, and what it raises."""
        arguments = self.decode(args if self.version == 1 else self.lift(args, meta))
        return self.function(ctx, **arguments) if self.wants_context else self.function(**arguments)

    def encode_result(self, value: object) -> bytes | None:
        """Encode what `function` returned; None for no result. Raises `InvalidInput` if it cannot be kept."""
        return encoding.encode_result(value)

    def decode_result(self, raw: bytes | None) -> object:
        """Decode a stored result to the annotated type. Raises `msgspec.MsgspecError`."""
        return None if raw is None else encoding.decode_as(raw, self.returns)

    def _make_signature(self) -> Signature:
        return Signature(self.function, self.kind)

    def __repr__(self) -> str:
        return f"<Task {self.kind}>"


class CallableTask(Task[P, R], Generic[P, R, Call, Returned]):
    """What ``@app.task`` makes of a function: a `Task` that still can be called with the function's own signature."""

    function: Callable[Call, Returned]

    def __call__(self, *args: Call.args, **kwargs: Call.kwargs) -> Returned:
        """Run the function here and now, as if it were not a task."""
        return self.function(*args, **kwargs)


def _check_function(function: Callable[..., object], kind: str) -> None:
    if not inspect.isroutine(function):
        raise DefinitionError(f"task {kind!r}: must be a function, is {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"task {kind!r}: must return its result, not yield")


def _template(kind: str, options: TaskOptions) -> NewJob[R]:
    """A job without arguments, with every option checked: copied for each real one."""
    job: NewJob[R] = NewJob(
        kind=kind,
        queue=options.queue,
        priority=options.priority,
        max_attempts=options.max_attempts,
        max_crashes=options.max_crashes,
        timeout_s=options.timeout_s,
        schedule_to_start_s=options.schedule_to_start_s,
        deadline_s=options.deadline_s,
        tags=tuple(options.tags),
        meta=marked(options.meta, options.version),
    )
    try:
        job = job.options(unique=options.unique)
        prepare(job)
        for alias in options.aliases:
            prepare(msgspec.structs.replace(job, kind=alias))
    except InvalidJob as e:
        raise DefinitionError(f"task {kind!r}: {e}") from None
    return job
