"""JSON Schema of tasks: what enqueue takes is valid, what it refuses is not."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema
import msgspec
import pydantic
import pytest

from goqueue.model.errors import DefinitionError, InvalidArguments
from goqueue.tasks.app import GoQueue
from tests.unit.tasks.test_arguments import RICH, Address, Point, app


class Tree(pydantic.BaseModel):
    """A model that contains itself."""

    name: str
    leaves: list[Tree] = []


class Colour(Enum):
    """Two."""

    RED = "red"
    BLUE = "blue"


other = GoQueue()


@other.task
def order(
    id: UUID,
    count: Annotated[int, msgspec.Meta(ge=1, le=10)],
    colour: Colour,
    how: Literal["fast", "slow"] = "slow",
    price: Decimal = Decimal(0),
    at: Point | None = None,
    tree: Tree | None = None,
) -> Tree:
    """Take some of everything that has bounds."""
    raise NotImplementedError


@other.task
def nothing() -> None:
    """Take nothing."""


@other.task
def untyped(value):  # type: ignore[no-untyped-def]
    """Take anything."""
    return value


GOOD: list[dict[str, Any]] = [
    {"id": UUID(int=1), "count": 1, "colour": Colour.RED},
    {"id": UUID(int=1), "count": 10, "colour": Colour.BLUE, "how": "fast", "at": Point(1), "price": 3},
    {"id": UUID(int=1), "count": 2, "colour": Colour.RED, "price": Decimal("1.50")},
    {"id": UUID(int=1), "count": 10, "colour": Colour.BLUE, "tree": Tree(name="a", leaves=[Tree(name="b")])},
]
PLAIN: dict[str, Any] = {"id": str(UUID(int=1)), "count": 1, "colour": "red"}
BAD: list[dict[str, Any]] = [
    {"count": 1, "colour": "red"},
    PLAIN | {"more": 1},
    PLAIN | {"count": 0},
    PLAIN | {"count": 1.5},
    PLAIN | {"colour": "green"},
    PLAIN | {"how": "never"},
    PLAIN | {"at": {"y": 1}},
    PLAIN | {"tree": {"leaves": []}},
    PLAIN | {"tree": {"name": "a", "leaves": [{"name": 1}]}},
]


def validator(schema: Any) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("given", GOOD)
def test_what_is_taken_is_valid(given: dict[str, Any]) -> None:
    job = order.job(**given)
    validator(order.schema()["args"]).validate(json.loads(job.args))


@pytest.mark.parametrize("given", BAD)
def test_what_is_refused_is_not(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments):
        order.decode(msgspec.json.encode(given))
    assert not validator(order.schema()["args"]).is_valid(given)


def test_results_are_valid_as_they_are_stored() -> None:
    check = validator(order.schema()["result"])
    check.validate(json.loads(order.encode_result(Tree(name="a", leaves=[Tree(name="b")])) or b""))
    assert not check.is_valid({"leaves": []})
    validator(nothing.schema()["result"]).validate(None)
    validator(untyped.schema()["result"]).validate({"any": "thing"})


def test_every_type_that_is_taken_has_a_schema() -> None:
    rich = app.tasks["rich"]
    check = validator(rich.schema()["args"])
    check.validate(json.loads(rich.job(**RICH).args))
    assert not check.is_valid({})


def test_all_of_an_application_by_kind() -> None:
    schemas = other.schemas()
    assert list(schemas) == ["nothing", "order", "untyped"]
    assert schemas["order"] == order.schema()
    assert (order.schema()["version"], order.schema()["aliases"]) == (1, [])


def test_models_of_one_name_are_told_apart() -> None:
    first = Address
    second = pydantic.create_model("Address", town=(str, ...))
    apart = GoQueue()

    def move(before: Any, after: Any) -> None: ...

    move.__annotations__ = {"before": list[first], "after": list[second], "return": None}  # type: ignore[valid-type]
    task = apart.task(move)
    text = json.dumps(task.schema())
    assert "streetName" in text
    assert "town" in text


def test_a_type_without_a_schema_says_so() -> None:
    class Odd(pydantic.BaseModel):
        check: Any = None

        @classmethod
        def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
            raise ValueError("none")

    apart = GoQueue()

    def odd(value: Any) -> None: ...

    odd.__annotations__ = {"value": Odd, "return": None}
    task = apart.task(odd)
    with pytest.raises(DefinitionError, match="no JSON Schema"):
        task.schema()
