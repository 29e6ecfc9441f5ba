"""A function's signature as a codec: call arguments to JSON and back, checked against the annotations.

A msgspec struct type is made once from the parameters, so that decoding goes straight into typed arguments.
"""

from __future__ import annotations

import copy
import inspect
import re
from typing import TYPE_CHECKING, Any, Union, get_origin, get_type_hints

import msgspec

from goqueue.model import limits
from goqueue.model.errors import DefinitionError, InvalidArguments
from goqueue.tasks import encoding
from goqueue.tasks.codec import CheckedArgs
from goqueue.tasks.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ALLOWED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class UnresolvedAnnotation(DefinitionError):
    """An annotation names something that is not there (yet)."""


class Signature:
    """What a task takes and returns. Raises `DefinitionError` for a function that cannot be a task."""

    def __init__(self, function: Callable[..., object], kind: str) -> None:
        self._kind = kind
        hints = hints_of(function, kind)
        parameters = list(inspect.signature(function).parameters.values())
        self.wants_context = bool(parameters) and _is_context(hints.get(parameters[0].name))
        if self.wants_context:
            del parameters[0]
        self.returns: object = hints.get("return")
        """The annotated type of the result; None if there is no annotation."""
        self.positional = tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.names = tuple(p.name for p in parameters)
        self.required = frozenset(p.name for p in parameters if p.default is inspect.Parameter.empty)
        self._struct = self._make_struct(parameters, hints)
        self._decoder = self._make_decoder(self._struct, "a parameter")
        if self.returns is not None:
            self._make_decoder(self.returns, "the result")

    @property
    def arguments(self) -> type[msgspec.Struct]:
        """The type that all arguments together are."""
        return self._struct

    def encode(self, args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
        """Encode call arguments as a JSON object. Raises `InvalidArguments`, which names the argument.

        What is encoded is decoded at once: what would fail in the worker fails here, at the caller.
        """
        if args:
            kwargs = self._merge(args, kwargs)
        try:
            value = self._struct(**kwargs)
        except TypeError:
            raise self._misfit(kwargs) from None
        try:
            raw = encoding.encoder.encode(value)
            encoding.check_encoded(value, raw, "/args", limits.ARGS_BYTES_MAX, InvalidArguments)
        except Exception as e:
            # Which of them was it? Each alone gives the same error with its own name.
            for name in self.names:
                encoding.encode(getattr(value, name), f"/args/{_escape(name)}", limits.ARGS_BYTES_MAX)
            if isinstance(e, InvalidArguments):
                raise
            raise InvalidArguments(f"cannot be stored as JSON: {e}", "/args") from e
        self._decode(raw)
        return CheckedArgs(raw)

    def decode(self, raw: bytes) -> dict[str, object]:
        """Decode stored arguments to keyword arguments. Raises `InvalidArguments`, which names the argument."""
        return msgspec.structs.asdict(self._decode(raw))

    def _decode(self, raw: bytes) -> Any:  # the struct type is made at run time
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as e:
            message, pointer = _locate(str(e))
            raise InvalidArguments(f"{message} (task {self._kind!r})", "/args" + pointer) from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise InvalidArguments(f"must be a JSON object: {e} (task {self._kind!r})", "/args") from e
        except Exception as e:  # a model's own validator may raise anything
            raise InvalidArguments(f"cannot be decoded: {e} (task {self._kind!r})", "/args") from e

    def _merge(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        if len(args) > len(self.positional):
            most = len(self.positional)
            raise InvalidArguments(
                f"task {self._kind!r} takes at most {most} positional arguments, got {len(args)}", "/args"
            )
        merged = dict(zip(self.positional, args, strict=False))
        for name in merged.keys() & kwargs.keys():
            raise InvalidArguments(f"task {self._kind!r} got it twice", f"/args/{_escape(name)}")
        return {**merged, **kwargs}

    def _misfit(self, kwargs: Mapping[str, object]) -> InvalidArguments:
        for name in kwargs:
            if name not in self.names:
                return InvalidArguments(f"task {self._kind!r} has no such argument", f"/args/{_escape(name)}")
        missing = next(name for name in self.names if name in self.required and name not in kwargs)
        return InvalidArguments(f"task {self._kind!r} needs it", f"/args/{_escape(missing)}")

    def _make_struct(self, parameters: list[inspect.Parameter], hints: Mapping[str, object]) -> type[msgspec.Struct]:
        fields: list[Any] = []  # tuples of two or three, as defstruct takes them
        for parameter in parameters:
            if parameter.kind not in _ALLOWED:
                raise DefinitionError(
                    f"task {self._kind!r}: {_shown(parameter)} cannot be stored by name;"
                    " every parameter must have a name that a caller can use"
                )
            hint = hints.get(parameter.name, Any)
            if _is_context(hint):
                raise DefinitionError(
                    f"task {self._kind!r}: Context must be the first parameter, not {parameter.name!r}"
                )
            if parameter.default is inspect.Parameter.empty:
                fields.append((parameter.name, hint))
            else:
                fields.append((parameter.name, *self._default(parameter, hint)))
        return msgspec.defstruct(
            f"{self._kind} arguments", fields, kw_only=True, forbid_unknown_fields=True, module=__name__
        )

    def _default(self, parameter: inspect.Parameter, hint: object) -> tuple[object, object]:
        """Type and default of a field. A default is stored with the job, so it must fit its own annotation."""
        default = parameter.default
        if default is None and hint is not Any:
            hint = Union[hint, None]  # noqa: UP007  `def f(x: int = None)`; the hint may not support `|`
        try:
            raw = encoding.encode(default, "", limits.ARGS_BYTES_MAX)
            encoding.decoder(hint).decode(raw)
        except Exception as e:
            raise DefinitionError(
                f"task {self._kind!r}: the default of {parameter.name!r} cannot be stored as its annotation says: {e}"
            ) from e
        if type(default).__hash__ is None:
            return hint, msgspec.field(default_factory=lambda: copy.deepcopy(default))
        return hint, default

    def _make_decoder(self, wanted: object, what: str) -> msgspec.json.Decoder[object]:
        try:
            return encoding.decoder(wanted)
        except TypeError as e:
            raise DefinitionError(f"task {self._kind!r}: {what} has a type that JSON cannot be decoded to: {e}") from e


def hints_of(function: Callable[..., object], kind: str) -> dict[str, object]:
    """Return a function's annotations, resolved. Raises `DefinitionError`."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as e:
        raise UnresolvedAnnotation(
            f"task {kind!r}: annotation not found: {e}. Annotations of a task are needed when it runs:"
            " import the name at the top of the module, not under TYPE_CHECKING or inside a function"
        ) from e
    except Exception as e:  # evaluating an annotation can raise anything
        raise DefinitionError(f"task {kind!r}: an annotation cannot be evaluated: {e}") from e


def _is_context(hint: object) -> bool:
    return hint is Context or get_origin(hint) is Context


def _shown(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return f"the positional-only parameter {parameter.name!r}"
    return f"{'*' if parameter.kind is inspect.Parameter.VAR_POSITIONAL else '**'}{parameter.name}"


# -- msgspec's errors in our words -----------------------------------------------------------------

_AT = re.compile(r"^(?P<message>.*?) - at `(?:key` in `)?\$(?P<path>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_FIELD = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)


def _locate(text: str) -> tuple[str, str]:
    """Split msgspec's error text into a message and a JSON Pointer; the pointer ends at the first unnamed dict key."""
    message, path = text, ""
    if found := _AT.match(text):
        message, path = found["message"], found["path"]
    pointer = ""
    for step in _STEP.finditer(path):
        if step["index"] == "...":
            return message, pointer
        pointer += "/" + _escape(step["name"] or step["index"])
    if field := _FIELD.match(message):
        message = "is missing" if field["what"] == "missing required" else "is not an argument or field that exists"
        pointer += "/" + _escape(field["name"])
    return message, pointer


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
