"""Arguments: what goes in comes out in the handler, or is refused at the caller with the argument's name."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.model import limits
from goqueue.model.errors import InvalidArguments, InvalidInput
from goqueue.tasks.app import GoQueue

app = GoQueue()


class Colour(enum.Enum):
    """An enum of texts."""

    RED = "red"


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: float = 0.0


class Size(msgspec.Struct):
    """A struct."""

    width: int


class Address(pydantic.BaseModel):
    """A model, with an alias and a nested model."""

    street: str = pydantic.Field(alias="streetName")
    since: datetime


class Secret(pydantic.BaseModel):
    """A model that does not survive JSON: it is dumped as asterisks."""

    token: pydantic.SecretStr


class Typed(TypedDict):
    """A typed dict."""

    a: int


@app.task
def anything(value: Any) -> None:
    """Take any JSON value."""


@app.task
def rich(
    point: Point,
    size: Size,
    address: Address,
    colour: Colour,
    at: datetime,
    day: date,
    took: timedelta,
    id: UUID,
    price: Decimal,
    numbers: dict[int, list[Point]],
    typed: Typed,
    maybe: Address | None = None,
    *,
    rest: tuple[int, ...] = (),
) -> None:
    """Take one of everything."""


@app.task
def mail(to: str, subject: str = "Hi", *, copies: list[str] = []) -> None:  # noqa: B006  the default is copied
    """Take plain values with defaults."""


RICH: dict[str, Any] = {
    "point": Point(1, 2.5),
    "size": Size(3),
    "address": Address(streetName="Main", since=datetime(2026, 1, 1, tzinfo=UTC)),
    "colour": Colour.RED,
    "at": datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    "day": date(2026, 2, 3),
    "took": timedelta(seconds=1.5),
    "id": UUID(int=7),
    "price": Decimal("12.30"),
    "numbers": {1: [Point(0)]},
    "typed": {"a": 1},
    "maybe": Address(streetName="Side", since=datetime(2026, 1, 2, tzinfo=UTC)),
    "rest": (1, 2),
}


def test_every_supported_type_comes_back_as_what_it_was() -> None:
    assert rich.decode(rich.job(**RICH).args) == RICH


def test_arguments_are_stored_as_a_plain_json_object() -> None:
    assert json.loads(mail.job("ada", copies=["bob"]).args) == {"to": "ada", "subject": "Hi", "copies": ["bob"]}


def test_a_default_is_stored_so_that_a_later_version_of_the_code_does_not_change_the_job() -> None:
    assert mail.decode(mail.job("ada").args) == {"to": "ada", "subject": "Hi", "copies": []}


def test_a_mutable_default_is_not_shared_between_jobs() -> None:
    first = mail.decode(b'{"to": "a"}')
    copies = first["copies"]
    assert isinstance(copies, list)
    copies.append("x")
    assert mail.decode(b'{"to": "a"}')["copies"] == []


def test_a_job_stored_before_a_parameter_got_its_default_still_runs() -> None:
    assert mail.decode(b'{"to": "ada"}') == {"to": "ada", "subject": "Hi", "copies": []}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**80), 2**80)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_value_is_stored_faithfully(value: Any) -> None:
    back = anything.decode(anything.job(value).args)["value"]
    assert back == value
    assert repr(back) == repr(value)  # 1, 1.0 and True are equal and not the same


@pytest.mark.parametrize("value", [2**53 + 1, -(2**63), 2**64, "‮evil​", "é", 1e308, -0.0, ""])
def test_edges_are_stored_faithfully(value: object) -> None:
    back = anything.decode(anything.job(value).args)["value"]
    assert repr(back) == repr(value)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        [1, {"a": math.nan}],
        Point(1, math.inf),
        {"x": (None, math.nan)},
        "\ud800",
        {"\udfff": 1},
        "a\0b",
        {"\0": 1},
        object(),
        {(1, 2): 3},
        1j,
        nested(100),
        nested(10_000),
        "x" * limits.ARGS_BYTES_MAX,
    ],
)
def test_what_json_cannot_hold_is_refused_at_the_caller_and_named(value: object) -> None:
    with pytest.raises(InvalidArguments) as refused:
        anything.job(value)
    assert refused.value.pointer == "/args/value"


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(InvalidArguments, match="nested"):
        anything.job(value)


def test_the_deepest_value_that_is_allowed_passes() -> None:
    value = nested(limits.DEPTH_MAX - 1)  # the arguments' own object is a level too
    assert anything.decode(anything.job(value).args)["value"] == value
    with pytest.raises(InvalidArguments):
        anything.job(nested(limits.DEPTH_MAX))


def test_null_beside_numbers_is_not_taken_for_nan() -> None:
    assert anything.decode(anything.job([None, 1.5, "null"]).args)["value"] == [None, 1.5, "null"]


def test_a_model_that_does_not_survive_json_is_refused() -> None:
    @app.task(kind="secret")
    def secret(model: Any) -> None: ...

    with pytest.raises(InvalidArguments, match="does not come back") as refused:
        secret.job(Secret(token=pydantic.SecretStr("hunter2")))
    assert refused.value.pointer == "/args/model"
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "args, kwargs, pointer, words",
    [
        ((), {}, "/args/to", "needs it"),
        ((1,), {}, "/args/to", "Expected `str`, got `int`"),
        (("a",), {"to": "b"}, "/args/to", "twice"),
        (("a",), {"bcc": "b"}, "/args/bcc", "no such argument"),
        (("a", "b", ["c"]), {}, "/args", "at most 2 positional"),
        (("a",), {"copies": ["x", 1]}, "/args/copies/1", "Expected `str`"),
        (("a",), {"copies": None}, "/args/copies", "Expected `array`, got `null`"),
    ],
)
def test_a_call_that_does_not_fit_fails_at_the_caller(
    args: tuple[Any, ...], kwargs: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidArguments, match=words) as refused:
        mail.job(*args, **kwargs)
    assert refused.value.pointer == pointer
    assert isinstance(refused.value, InvalidInput)


def test_a_wrong_field_of_a_nested_value_is_named() -> None:
    wrong = {**RICH, "numbers": {1: [Point("one")]}}  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments) as refused:
        rich.job(**wrong)
    assert refused.value.pointer == "/args/numbers"


def test_a_model_refuses_with_its_own_words() -> None:
    good = json.loads(rich.job(**RICH).args)
    good["address"] = {"streetName": 5, "since": "never"}
    with pytest.raises(InvalidArguments, match="valid string") as refused:
        rich.decode(json.dumps(good).encode())
    assert refused.value.pointer == "/args/address"


@pytest.mark.parametrize(
    "raw, pointer",
    [
        (b"{}", "/args/to"),
        (b'{"to": 1}', "/args/to"),
        (b'{"to": "a", "renamed": 1}', "/args/renamed"),
        (b'{"to": "a", "copies": ["b", 2]}', "/args/copies/1"),
        (b"[]", "/args"),
        (b"null", "/args"),
        (b"", "/args"),
        (b'{"to":', "/args"),
        (b'{"to": "\xff"}', "/args"),
        (b'{"to": "\\ud800"}', "/args"),
        (b'{"to": NaN}', "/args"),
        (b"[" * 10_000, "/args"),
        (b'{"to": ' + b"[" * 10_000, "/args"),
    ],
)
def test_stored_arguments_that_do_not_fit_are_a_typed_error(raw: bytes, pointer: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        mail.decode(raw)
    assert refused.value.pointer.startswith(pointer)


def test_a_slash_and_a_tilde_in_a_name_are_escaped_in_the_pointer() -> None:
    with pytest.raises(InvalidArguments) as refused:
        mail.decode(b'{"to": "a", "a/b~c": 1}')
    assert refused.value.pointer == "/args/a~1b~0c"


@pytest.mark.parametrize("value", [None])
def test_no_result_is_none(value: None) -> None:
    assert mail.encode_result(value) is None
    assert mail.decode_result(None) is None


@pytest.mark.parametrize("value", [math.nan, "\ud800", "a\0", object(), "x" * limits.RESULT_BYTES_MAX, nested(100)])
def test_a_result_that_cannot_be_kept_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        mail.encode_result(value)
    assert refused.value.pointer == "/result"


def test_a_result_comes_back_as_its_annotated_type() -> None:
    @app.task(kind="where")
    async def where() -> list[Point]:
        return [Point(1)]

    raw = where.encode_result([Point(1, 2.0)])
    assert where.decode_result(raw) == [Point(1, 2.0)]
