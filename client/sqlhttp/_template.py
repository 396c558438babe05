"""SQL text with values: what may stand in a statement, and how parts are put together.

A plain string is never interpolated. Values go beside the text as parameters `$1`, `$2`, …; what cannot be a
parameter (a table's name, a part of the statement) is a `Query`, made by `sql.q`, `sql.ident`, `sql.join` or, with
care, `sql.unsafe`. A `Query` that is given in place of a parameter becomes part of the text.
"""

from typing import Any

from sqlhttp._errors import InterfaceError
from sqlhttp._params import encode_param
from sqlhttp._request import Statement


class Query:
    """A statement, or a part of one, with its parameters; nothing is sent until it is given to `sql`."""

    __slots__ = ("params", "text")

    def __init__(self, text: str, params: tuple[Any, ...] = ()) -> None:
        self.text = text
        self.params = params

    def __repr__(self) -> str:
        return f"Query({self.text!r}, {len(self.params)} parameters)"  # never their values


def query_of(text: Any, params: tuple[Any, ...]) -> Query:
    """The query that `sql(text, *params)` means.

    Raises:
        InterfaceError: the text is neither a string nor a Query.
    """
    if isinstance(text, str):
        return Query(text, params)
    if isinstance(text, Query):
        return Query(text.text, text.params + params)
    raise InterfaceError(f"a query is a string or comes from sql.q, not {type(text).__name__}")


def statement_of(query: Query) -> Statement:
    """The query as it is sent.

    Raises:
        InterfaceError: a parameter's type has no rule.
    """
    return Statement(query.text, tuple([encode_param(value) for value in query.params]))
