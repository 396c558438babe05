"""A JSON value becomes a parameter in Postgres's text format.

Parameters carry no declared type: Postgres infers it from the SQL and reads the text accordingly. The rules are
Neon's, but for its faults: inside an array literal only quotes and backslashes are escaped, since Postgres reads "\\n"
there as the letter n; an object keeps the order of its members; a number keeps every digit it was written with.
"""

from typing import Any

import orjson


class Number(str):
    """A JSON number as it was written, for those that neither int nor float would keep digit for digit."""

    __slots__ = ()


def param_from_json(value: Any) -> bytes | None:
    """The text of one parameter; None is NULL.

    Arrays become array literals, at any depth, and objects compact JSON.

    Raises:
        ValueError: a string has a lone surrogate, or an object nests deeper than 250 levels.
        RecursionError: arrays nest deeper than Python's stack; Postgres itself has six dimensions.
    """
    if type(value) is str:
        return value.encode()
    if value is None:
        return None
    return _text(value).encode()


def _text(value: Any) -> str:
    if isinstance(value, str):  # a plain string or a Number
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, dict):
        return _json(value)
    if isinstance(value, list):
        return _array(value)
    return repr(value)  # int, or a float in its shortest form


def _array(items: list[Any]) -> str:
    return "{" + ",".join([_element(item) for item in items]) + "}"


def _element(item: Any) -> str:
    if type(item) is str:
        return _quoted(item)
    if item is None:
        return "NULL"
    if isinstance(item, dict):
        return _quoted(_json(item))
    return _text(item)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value, _verbatim, orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
    except TypeError as error:
        raise ValueError(f"an object cannot be written as JSON: {error}") from None


def _verbatim(value: object) -> orjson.Fragment:
    """How orjson writes the one subclass that stands in its way, a Number."""
    return orjson.Fragment(str(value))
