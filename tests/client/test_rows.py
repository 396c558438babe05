"""What a row becomes."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import pydantic
import pytest

from sqlhttp import InterfaceError
from sqlhttp._rows import row_maker


@dataclass
class User:
    id: int
    name: str = "nobody"


class Named(NamedTuple):
    id: int
    name: str


class Typed(TypedDict):
    id: int
    name: str


class Model(pydantic.BaseModel):
    id: int
    name: str


Old = namedtuple("Old", "name id")


def greet(*, id: int, name: str) -> str:
    return f"{name} is {id}"


@pytest.mark.parametrize(
    ("row", "made"),
    [
        (None, {"id": 1, "name": "ada"}),
        (dict, {"id": 1, "name": "ada"}),
        (tuple, (1, "ada")),
        (list, [1, "ada"]),
        (User, User(1, "ada")),
        (Named, Named(1, "ada")),
        (Old, Old("ada", 1)),
        (Typed, {"id": 1, "name": "ada"}),
        (Model, Model(id=1, name="ada")),
        (greet, "ada is 1"),
    ],
)
def test_a_row_is_what_was_asked_for(row: Any, made: Any) -> None:
    found = row_maker(row, ["id", "name"])([1, "ada"])
    assert found == made
    assert type(found) is type(made)


def test_of_equal_names_the_last_value_stays_in_a_dict_and_all_in_a_tuple() -> None:
    assert row_maker(dict, ["a", "a"])([1, 2]) == {"a": 2}
    assert row_maker(tuple, ["a", "a"])([1, 2]) == (1, 2)


def test_columns_may_be_fewer_than_fields_that_have_defaults() -> None:
    assert row_maker(User, ["id"])([1]) == User(1)


@pytest.mark.parametrize(
    ("row", "names", "words"),
    [
        (User, ["id", "nme"], "User has no field for the column 'nme'"),
        (Named, ["id", "x", "y"], "Named has no field for the column 'x', 'y'"),
        (User, ["id", "id"], "two columns are named 'id'"),
        (5, ["id"], "row="),
    ],
)
def test_columns_that_do_not_fit_are_named(row: Any, names: list[str], words: str) -> None:
    with pytest.raises(InterfaceError, match=words):
        row_maker(row, names)


def test_a_models_own_error_is_its_own() -> None:
    with pytest.raises(pydantic.ValidationError):
        row_maker(Model, ["id", "name"])(["x", "ada"])
