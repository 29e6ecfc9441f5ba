"""Arguments that an older version of a task has stored: lifted, version by version, to those of today.

The version travels in the job's meta, so that every door carries it; a job without one is of version 1.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from goqueue.model.errors import DefinitionError, InvalidArguments, InvalidJob
from goqueue.model.job import VERSION_KEY
from goqueue.tasks import encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Args: TypeAlias = "dict[str, Any]"  # decoded JSON
Upcaster: TypeAlias = "Callable[[Args], Args]"

VERSION_MAX: Final = 1_000
MARK: Final = f'"{VERSION_KEY}"'.encode()
"""What encoded meta has in it where there is a version."""

_meta = msgspec.json.Decoder(dict[str, str])


def check_version(version: object, kind: str) -> None:
    """Raise `DefinitionError` unless a task may have this version."""
    if type(version) is not int or not 1 <= version <= VERSION_MAX:
        raise DefinitionError(f"task {kind!r}: version must be a whole number from 1 to {VERSION_MAX}")


def check_meta(value: str, pointer: str) -> None:
    """Raise `InvalidJob` unless this is a version as meta has it."""
    if _number(value) > VERSION_MAX:
        raise InvalidJob(f"is the version of the arguments: must be a whole number from 1 to {VERSION_MAX}", pointer)


def version_in(meta: bytes | None) -> int:
    """Return the version of a job's arguments. What is no version is newer than any: nobody knows how to read it."""
    if meta is None or MARK not in meta:
        return 1
    return _number(_meta.decode(meta).get(VERSION_KEY, "1"))


def _number(value: str) -> int:
    if value.isascii() and value.isdecimal() and 1 <= len(value) <= 4 and value[0] != "0":
        return int(value)
    return sys.maxsize


class Versions:
    """The versions of one task: the present one, and a function from each older one to the next."""

    def __init__(self, kind: str, version: int) -> None:
        self.version = version
        self._kind = kind
        self._upcasters: dict[int, Upcaster] = {}

    def add(self, from_version: int, upcaster: Upcaster) -> None:
        """Take the function from this version to the next. Raises `DefinitionError`."""
        if type(from_version) is not int or not 1 <= from_version < self.version:
            raise DefinitionError(
                f"task {self._kind!r}: an upcaster goes from a version from 1 to {self.version - 1} to the next,"
                f" not from {from_version!r}; the task says version={self.version}"
            )
        if from_version in self._upcasters:
            raise DefinitionError(f"task {self._kind!r}: two upcasters go from version {from_version}")
        self._upcasters[from_version] = upcaster

    def check(self) -> None:
        """Raise `DefinitionError` if an upcaster is missing."""
        missing = [version for version in range(1, self.version) if version not in self._upcasters]
        if missing:
            raise DefinitionError(
                f"task {self._kind!r}: no upcaster from version {missing[0]}: write a function from its arguments"
                f" to those of version {missing[0] + 1}, with @{self._kind}.upcast(from_version={missing[0]})"
            )

    def lift(self, args: bytes, meta: bytes | None) -> bytes:
        """Return arguments of the present version. Raises `InvalidArguments`, also if an upcaster raises."""
        version = version_in(meta)
        if version == self.version:
            return args
        value: object = encoding.plain_decoder.decode(args)
        while version < self.version:
            upcaster = self._upcasters.get(version)
            if upcaster is None:
                raise InvalidArguments(f"are of version {version}, and task {self._kind!r} has no upcaster", "/args")
            try:
                value = upcaster(_object(value))
            except Exception as e:
                raise InvalidArguments(
                    f"the upcaster of task {self._kind!r} from version {version} failed: {type(e).__name__}: {e}",
                    "/args",
                ) from e
            version += 1
        if version > self.version:
            raise InvalidArguments(f"are of a version that task {self._kind!r} does not know", "/args")
        return encoding.encode(_object(value), "/args", sys.maxsize)


def _object(value: object) -> Args:
    if not isinstance(value, dict):
        raise InvalidArguments(f"an upcaster takes and returns a dict, not {type(value).__name__}", "/args")
    return value


def marked(meta: Mapping[str, str], version: int) -> dict[str, str]:
    """Return meta with the version of the arguments."""
    return {**meta, VERSION_KEY: str(version)} if version > 1 else dict(meta)
