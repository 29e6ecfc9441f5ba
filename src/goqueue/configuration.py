"""Where settings come from: environment over configuration file over default (flags are the CLI's, and over all).

The file is ``[tool.goqueue]`` of the nearest pyproject.toml, or the TOML file that ``GOQUEUE_CONFIG`` names.
A setting ``worker.lease_s`` is ``GOQUEUE_WORKER_LEASE_S`` in the environment. A table such as
``store.queue_retention`` is JSON there, ``{"mail": {"completed_s": 3600}}``, and in the file it is
``[tool.goqueue.store.queue_retention.mail]``. TOML has no null: ``"null"`` stands for it.
"""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from goqueue.model.errors import InvalidSetting
from goqueue.settings import ClientSettings, DutySettings, ServerSettings, StoreSettings, WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=msgspec.Struct)

GROUPS: Final[dict[str, type[msgspec.Struct]]] = {
    "client": ClientSettings,
    "duties": DutySettings,
    "server": ServerSettings,
    "store": StoreSettings,
    "worker": WorkerSettings,
}
_TOP: Final = {"url": "GOQUEUE_URL", "app": "GOQUEUE_APP"}
_TOP_MEANING: Final = {"url": "where to connect", "app": "the application, module:name"}
_OTHER_VARIABLES: Final = {"GOQUEUE_CONFIG"}
DEFAULT: Final = "default"
TABLE_MAX: Final = 1_000
"""Entries of one setting that is a table."""


class Value(msgspec.Struct, frozen=True):
    """One setting as it is in force, and where it came from."""

    name: str
    value: object
    source: str
    meaning: str


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of this process."""

    url: str | None
    app: str | None
    client: ClientSettings
    duties: DutySettings
    server: ServerSettings
    store: StoreSettings
    worker: WorkerSettings
    values: tuple[Value, ...]
    """Every setting with its source, for `goqueue config`."""


@cache
def configuration() -> Configuration:
    """Return the settings of this process, read once."""
    return load(os.environ, Path.cwd())


def load(environment: Mapping[str, str], folder: Path) -> Configuration:
    """Read the settings. Raises `InvalidSetting`, naming the setting, its source and what is wrong."""
    path, table = _file(environment, folder)
    file_source = f"{path}" if path else "file"
    _refuse_unknown(table, file_source)
    _refuse_unknown_variables(environment)
    values: list[Value] = []
    top: dict[str, str | None] = {}
    for name, variable in _TOP.items():
        found = environment.get(variable) or None
        source = variable if found else DEFAULT
        if found is None and table.get(name) is not None:
            found, source = str(table[name]), file_source
        top[name] = found
        values.append(Value(name, found, source, _TOP_MEANING[name]))
    groups: dict[str, Any] = {}  # Any: each group has a type of its own
    for group, kind in GROUPS.items():
        groups[group] = _group(group, kind, table.get(group, {}), file_source, environment, values)
    return Configuration(url=top["url"], app=top["app"], values=tuple(values), **groups)


def _group(
    group: str,
    kind: type[S],
    table: Mapping[str, object],
    file_source: str,
    environment: Mapping[str, str],
    values: list[Value],
) -> S:
    given: dict[str, object] = {}
    sources: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        variable = f"GOQUEUE_{group}_{field.name}".upper()
        if variable in environment:
            given[field.name], sources[field.name] = environment[variable], variable
        elif field.name in table:
            given[field.name], sources[field.name] = table[field.name], file_source
    for field in msgspec.structs.fields(kind):
        if field.name in given and (entry := _entry_type(field)) is not None:
            where = f"{group}.{field.name} (from {sources[field.name]})"
            given[field.name] = _table_of(given[field.name], entry, where)
    try:
        settings = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as e:
        name = str(e).rpartition("$.")[2].strip("`")
        source = sources.get(name.partition("[")[0], file_source)
        raise InvalidSetting(f"{group}.{name} (from {source}): {e}") from None
    for field in msgspec.structs.fields(kind):
        meaning = _meaning(field)
        values.append(
            Value(f"{group}.{field.name}", getattr(settings, field.name), sources.get(field.name, DEFAULT), meaning)
        )
    return settings


def _entry_type(field: msgspec.structs.FieldInfo) -> type[msgspec.Struct] | None:
    """Return what a setting that is a table has under each name; None for all other settings."""
    annotated = msgspec.inspect.type_info(field.type)
    inner = annotated.type if isinstance(annotated, msgspec.inspect.Metadata) else annotated
    if isinstance(inner, msgspec.inspect.DictType) and isinstance(inner.value_type, msgspec.inspect.StructType):
        return inner.value_type.cls
    return None


def _table_of(given: object, entry: type[msgspec.Struct], where: str) -> object:
    """Return a table as it was given (in the environment as JSON). Refuses names that its entries do not have."""
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except msgspec.DecodeError as e:
            raise InvalidSetting(f'{where}: must be JSON, such as {{"name": {{…}}}}: {e}') from None
    if not isinstance(given, dict):
        raise InvalidSetting(f"{where}: must be a table")
    if len(given) > TABLE_MAX:
        raise InvalidSetting(f"{where}: may have at most {TABLE_MAX} entries, has {len(given)}")
    known = {field.name for field in msgspec.structs.fields(entry)}
    for name, value in given.items():
        for inner in value if isinstance(value, dict) else ():
            if inner not in known:
                raise InvalidSetting(f"{where}: no setting {name}.{inner}{_nearest(str(inner), known)}")
    return given


def _meaning(field: msgspec.structs.FieldInfo) -> str:
    for meta in getattr(field.type, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return ""


def _file(environment: Mapping[str, str], folder: Path) -> tuple[Path | None, dict[str, Any]]:
    named = environment.get("GOQUEUE_CONFIG")
    if named:
        return Path(named), _toml(Path(named))
    for place in (folder, *folder.parents):
        candidate = place / "pyproject.toml"
        if candidate.is_file():
            table = _toml(candidate).get("tool", {}).get("goqueue", {})
            return candidate, table
    return None, {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise InvalidSetting(f"cannot read {path}: {e}") from None


def _refuse_unknown(table: Mapping[str, object], source: str) -> None:
    for name, value in table.items():
        if name in GROUPS and isinstance(value, dict):
            known = {field.name for field in msgspec.structs.fields(GROUPS[name])}
            for inner in value:
                if inner not in known:
                    raise InvalidSetting(f"{source}: no setting {name}.{inner}{_nearest(inner, known)}")
        elif name not in _TOP:
            raise InvalidSetting(f"{source}: no setting {name}{_nearest(name, {*_TOP, *GROUPS})}")


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {*_TOP.values(), *_OTHER_VARIABLES}
    for group, kind in GROUPS.items():
        known.update(f"GOQUEUE_{group}_{field.name}".upper() for field in msgspec.structs.fields(kind))
    for name in environment:
        if name.startswith("GOQUEUE_") and not name.startswith("GOQUEUE_TEST_") and name not in known:
            raise InvalidSetting(f"environment: no setting {name}{_nearest(name, known)}")


def _nearest(name: str, known: set[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; do you mean {near[0]}?" if near else ""
