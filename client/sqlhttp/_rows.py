"""What a row becomes: dict, tuple, namedtuple, a dataclass, a pydantic model, or whatever a callable makes of it.

A row maker is made once for a result, from its column names, and called once for each row's values.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlhttp._errors import InterfaceError

T = TypeVar("T")


class Field(NamedTuple):
    """One column of a result, as Postgres's RowDescription tells it."""

    name: str
    data_type_id: int
    table_id: int = 0
    column_id: int = 0
    data_type_size: int = -1
    data_type_modifier: int = -1
    format: str = "text"


RowMaker = Callable[[Sequence[Any]], Any]


def row_maker(row: Any, names: list[str]) -> RowMaker:
    """The function that makes a row of a list of values.

    `row` is `dict` or None (of equal names the last one's value stays, as in Neon's driver), `tuple`, `list`, a
    namedtuple class, a dataclass, a pydantic model, any other class or function that takes the columns as keyword
    arguments.

    Raises:
        InterfaceError: the columns' names cannot be the arguments of `row`.
    """
    if row is None or row is dict:
        return lambda values: dict(zip(names, values, strict=True))
    if row is tuple or row is list:
        return row
    if not callable(row):
        raise InterfaceError("row= takes dict, tuple, a class or a function")
    _check_names(row, names)
    return _checked(getattr(row, "model_validate", None) or _by_keyword(row), names)


def _by_keyword(row: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: row(**values)


def _checked(make: Callable[[dict[str, Any]], Any], names: list[str]) -> RowMaker:
    return lambda values: make(dict(zip(names, values, strict=True)))


def _check_names(row: Any, names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InterfaceError(f"two columns are named {twice!r}; give one another name with AS")
    fields = getattr(row, "_fields", None) or getattr(row, "__dataclass_fields__", None)
    if fields is None:
        return
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise InterfaceError(f"{row.__name__} has no field for the column {', '.join(map(repr, unknown))}")
