"""SQL text with values: what may stand in a statement, and how parts are put together.

A plain string is never interpolated. Values go beside the text as parameters `$1`, `$2`, …; what cannot be a
parameter (a table's name, a part of the statement) is a `Query`, made by `sql.q`, `sql.ident`, `sql.join` or, with
care, `sql.unsafe`. A `Query` that is given in place of a parameter becomes part of the text there.

Template strings (PEP 750) are taken by their shape, so that this runs on Pythons that do not have them: an object
with `strings` and `interpolations`. Format specifications are psycopg's: `{name:i}` an identifier, `{part:q}` a
Query or template, `{value:l}` a literal; without one a value is a parameter and a Query a part of the text.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Generic, LiteralString, NamedTuple, Protocol, TypeVar

from sqlhttp._errors import InterfaceError
from sqlhttp._literals import literal, quoted_name
from sqlhttp._params import encode_param
from sqlhttp._request import Statement

Answer = TypeVar("Answer", covariant=True)


class Interpolation(Protocol):
    """The `{value!conversion:format_spec}` of a template string."""

    @property
    def value(self) -> Any: ...
    @property
    def expression(self) -> str: ...
    @property
    def conversion(self) -> Any: ...
    @property
    def format_spec(self) -> str: ...


class Template(Protocol):
    """A template string: one more of `strings` than of `interpolations`."""

    @property
    def strings(self) -> tuple[str, ...]: ...
    @property
    def interpolations(self) -> tuple[Interpolation, ...]: ...


class Query(Generic[Answer]):
    """A statement, or a part of one, with its parameters. Nothing is sent until it is given to `sql`.

    `Answer` is what it gives when it is run. Two of them are joined by `+`.
    """

    __slots__ = ("params", "shape", "text")

    def __init__(self, text: str, params: tuple[Any, ...] = (), *, shape: Any = None) -> None:
        self.text = text
        self.params = params
        self.shape = shape
        """How its rows are wanted where that differs from the client's (`_options.Wanted`)."""

    def __add__(self, other: "Query[Any]") -> "Query[Any]":
        if not isinstance(other, Query):
            return NotImplemented
        return Query("$1$2", (self, other))

    def __repr__(self) -> str:
        return f"Query({self.text!r}, {len(self.params)} parameters)"  # never their values


Text = LiteralString | Query[Any] | Template
"""What may be given as a query: a string that stands in the program, a Query, or a template string."""


class Maker:
    """Makes queries and parts of them; nothing is sent."""

    __slots__ = ()

    def ident(self, *names: str) -> Query[Any]:
        """A quoted identifier: `sql.ident("schema", "table")`."""
        return Query(quoted_name(*names))

    def join(self, parts: Iterable[Any], separator: LiteralString = ", ") -> Query[Any]:
        """The parts with the separator between them; what is not a Query becomes a parameter."""
        items = tuple(parts)
        return Query(separator.join(f"${number}" for number in range(1, len(items) + 1)), items)

    def unsafe(self, text: str, *params: Any) -> Query[Any]:
        """Text as it is, also when it was put together by the program. Never with text from outside."""
        if not isinstance(text, str):
            raise InterfaceError(f"sql.unsafe takes a string, not {type(text).__name__}")
        return Query(text, params)


def query_of(text: Any, params: Sequence[Any] = ()) -> Query[Any]:
    """The query that `sql(text, *params)` means.

    Raises:
        InterfaceError: the text is neither a string, a Query nor a template string.
    """
    if isinstance(text, str):
        return Query(text, tuple(params))
    if isinstance(text, Query):
        return Query(text.text, text.params + tuple(params), shape=text.shape) if params else text
    if is_template(text):
        if params:
            raise InterfaceError("a template string has its values in it; no other parameters can follow")
        return _from_template(text)
    raise InterfaceError(f"a query is a string, a template string or a Query, not {type(text).__name__}")


def is_template(value: Any) -> bool:
    return hasattr(value, "strings") and hasattr(value, "interpolations")


def statement_of(query: Query[Any]) -> Statement:
    """The query as it is sent, its parts put in.

    Raises:
        InterfaceError: a parameter's type has no rule, or a placeholder has no parameter.
    """
    text, params = query.text, query.params
    if any(isinstance(value, Query) or is_template(value) for value in params):
        composed = _Composed([], [])
        _compose(query, composed)
        text, params = "".join(composed.text), tuple(composed.params)
    return Statement(text, tuple([encode_param(value) for value in params]))


class _Composed(NamedTuple):
    text: list[str]
    params: list[Any]

    def add(self, text: str) -> None:
        if self.text and text and _would_merge(self.text[-1], text):
            self.text.append(" ")
        if text:
            self.text.append(text)


_MERGING = frozenset({('"', '"'), ("'", "'"), ("-", "-"), ("/", "*")})


def _would_merge(before: str, after: str) -> bool:
    """Whether two parts that stand for themselves would be read as one: `$1` and `5`, `a` and `$1`, `"a"` and `"b"`."""
    last, first = before[-1], after[0]
    if first == "$":
        return last == "$" or _goes_on(last)
    return (before[0] == "$" and _goes_on(first)) or (last, first) in _MERGING


def _goes_on(char: str) -> bool:
    """Whether a number or a name goes on with this character; an empty one is none."""
    return char.isalnum() or char == "_" or char >= "\x80"


def _compose(query: Query[Any], into: _Composed) -> None:
    from sqlhttp._scan import placeholders  # most programs put nothing together

    numbers: dict[int, int] = {}
    position = 0
    for found in placeholders(query.text):
        if not 1 <= found.number <= len(query.params):
            raise InterfaceError(f"${found.number} has no parameter in a query of {len(query.params)}")
        into.add(query.text[position : found.start])
        position = found.end
        value = query.params[found.number - 1]
        if isinstance(value, Query) or is_template(value):
            _compose(query_of(value), into)
            numbers[found.number] = 0
            continue
        if found.number not in numbers:
            into.params.append(value)
            numbers[found.number] = len(into.params)
        into.add(f"${numbers[found.number]}")
    into.add(query.text[position:])
    if len(numbers) != len(query.params):
        unused = next(number for number in range(1, len(query.params) + 1) if number not in numbers)
        raise InterfaceError(f"the query has no ${unused} for its parameter {unused}")


# ── template strings ─────────────────────────────────────────────────────────────────────────────────────────────────


def _from_template(template: Any) -> Query[Any]:
    values = tuple(_interpolated(part) for part in template.interpolations)
    return Query(_numbered(tuple(template.strings)), values)


@lru_cache(maxsize=512)
def _numbered(strings: tuple[str, ...]) -> str:
    """The template's text with `$1`, `$2`, … for its interpolations.

    Raises:
        InterfaceError: the text has placeholders of its own, or an interpolation stands where Postgres sees none.
    """
    from sqlhttp._scan import placeholders

    text = strings[0]
    for number, after in enumerate(strings[1:], 1):
        text += f"${number}" + (" " if _goes_on(after[:1]) else "") + after
    found = [placeholder.number for placeholder in placeholders(text)]
    if found != list(range(1, len(strings))):
        raise InterfaceError(
            "a template string has $n of its own, or a value inside quotes or a comment: values are parameters, "
            "not text, and need no quotes"
        )
    return text


_CONVERSIONS: dict[str, Callable[[Any], str]] = {"r": repr, "s": str, "a": ascii}


def _interpolated(part: Any) -> Any:
    value, spec = part.value, part.format_spec
    if part.conversion:
        value = _CONVERSIONS[part.conversion](value)
    match spec:
        case "" | "s" | "t" | "b":
            # Postgres cannot tell bytes from text where nothing else says the type; Neon's driver adds the same cast.
            return Query("$1::bytea", (value,)) if isinstance(value, bytes | bytearray | memoryview) else value
        case "i":
            if isinstance(value, Query):
                return value
            return Query(quoted_name(*([value] if isinstance(value, str) else value)))
        case "q":
            if isinstance(value, Query) or is_template(value):
                return value
            raise InterfaceError(f"{{{part.expression}:q}} takes a Query or a template, not {type(value).__name__}")
        case "l":
            return Query(literal(value))
    raise InterfaceError(f"{{{part.expression}:{spec}}} is not known; there are :i, :q, :l, :s, :t and :b")
