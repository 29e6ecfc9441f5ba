"""JSON Schema (2020-12) of what a task takes and returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from goqueue.tasks.encoding import is_model

if TYPE_CHECKING:
    from goqueue.model.job import Json

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(wanted: object, mode: Literal["validation", "serialization"]) -> dict[str, Json]:
    """Return the schema of a type. ``mode`` is for Pydantic models: what they take, or what they write.

    Raises `TypeError` for a type that has none.
    """
    models: dict[str, Json] = {}
    names: dict[str, type] = {}

    def model_schema(model: type) -> dict[str, Any]:
        if not is_model(model):
            raise TypeError(f"no JSON Schema of a {model.__qualname__}")
        # Its definitions are named after it, so that those of two models never meet.
        place = model.__name__
        if names.setdefault(place, model) is not model:
            place = f"{model.__module__}.{model.__qualname__}"
        made = model.model_json_schema(mode=mode, by_alias=True, ref_template=f"#/$defs/{place}.{{model}}")
        models.update({f"{place}.{name}": inner for name, inner in made.pop("$defs", {}).items()})
        return dict(made)

    (schema,), components = msgspec.json.schema_components(
        (wanted,), schema_hook=model_schema, ref_template="#/$defs/{name}"
    )
    definitions: dict[str, Any] = {**components, **models}
    if set(schema) == {"$ref"}:
        name = schema["$ref"].removeprefix("#/$defs/")
        if not _refers(definitions, schema["$ref"]):  # nobody else needs the name: it is the document itself
            schema = definitions.pop(name)
    document = {"$schema": DIALECT, **schema, **({"$defs": definitions} if definitions else {})}
    return _with_numbers(document) if mode == "validation" else document


def _with_numbers(value: Any) -> Any:
    """Let decimals be numbers, too: they are decoded from both."""
    if isinstance(value, dict):
        if value.get("format") == "decimal" and value.get("type") == "string":
            return {**value, "type": ["string", "number"]}
        return {key: _with_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_numbers(one) for one in value]
    return value


def _refers(value: object, ref: str) -> bool:
    if isinstance(value, dict):
        return value.get("$ref") == ref or any(_refers(one, ref) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_refers(one, ref) for one in value)
    return False
