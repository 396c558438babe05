r"""A Python value becomes the text that Postgres reads for its type.

Parameters carry no type over SQL-over-HTTP: Postgres infers it from the statement and reads the text. No digit is
lost, since no number passes through JSON. Lists become array literals and dicts JSON; a list that is meant for a
json column is wrapped in `Json`.
"""

from collections.abc import Callable
from json import JSONEncoder
from typing import Any

from sqlhttp._errors import InterfaceError

_json_text = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Json:
    """A value to send as JSON whatever its Python type: `Json([1, 2])` for a json or jsonb column."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Json({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def text(self) -> str:
        try:
            return _json_text(self.value)
        except (TypeError, ValueError) as error:
            raise InterfaceError(f"cannot express the parameter as JSON: {error}") from None


def encode_param(value: Any) -> str | None:
    """Postgres's text for `value`; None stays None and is NULL.

    Raises:
        InterfaceError: there is no rule for values of this type.
    """
    if value is None or type(value) is str:
        return value
    encode = _ENCODERS.get(type(value))
    return encode(value) if encode is not None else _encode_by_base(value)


def encode_array(value: Any) -> str:
    """An array literal. Every element but NULL is quoted, which is right for every element type."""
    parts: list[str] = []
    for item in value:
        if item is None:
            parts.append("NULL")
        elif isinstance(item, list | tuple):
            parts.append(encode_array(item))
        else:
            text = encode_param(item) or ""
            if "\\" in text:
                text = text.replace("\\", "\\\\")
            if '"' in text:
                text = text.replace('"', '\\"')
            parts.append(f'"{text}"')
    return "{" + ",".join(parts) + "}"


def _encode_float(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def _encode_int(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # Python prints 4300 digits of an int at most; a numeric has up to 131072
        from decimal import Decimal

        return format(Decimal(value), "f")


def _encode_bool(value: bool) -> str:
    return "true" if value else "false"


def _encode_bytes(value: Any) -> str:
    return "\\x" + bytes(value).hex()


def _encode_dict(value: Any) -> str:
    return Json(value).text


def _encode_timedelta(value: Any) -> str:
    clock = value.seconds * 1_000_000 + value.microseconds
    seconds, micros = divmod(clock, 1_000_000)
    # With IntervalStyle sql_standard the sign of the days would be that of the seconds, too, where these have none.
    return f"{value.days} days +{seconds}.{micros:06d} seconds"


def _encode_decimal(value: Any) -> str:
    if value.is_nan():
        return "NaN"  # Postgres has one NaN, Python several
    if value.is_infinite():
        return "-Infinity" if value < 0 else "Infinity"
    return str(value)


def _encode_iso(value: Any) -> str:
    return str(value.isoformat())


def _encode_time(value: Any) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:  # Postgres would take it for a time of its own zone
        raise InterfaceError(f"a time in the zone {value.tzinfo} has no offset without a date; send a datetime")
    return _encode_iso(value)


_ENCODERS: dict[type[Any], Callable[[Any], str]] = {
    str: str.__str__,  # str() of an enum's member would be its name
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    memoryview: _encode_bytes,
    list: encode_array,
    tuple: encode_array,
    dict: _encode_dict,
    Json: lambda value: value.text,
}

_BY_NAME: dict[tuple[str, str], Callable[[Any], str]] = {
    ("decimal", "Decimal"): _encode_decimal,
    ("datetime", "datetime"): _encode_iso,
    ("datetime", "date"): _encode_iso,
    ("datetime", "time"): _encode_time,
    ("datetime", "timedelta"): _encode_timedelta,
    ("uuid", "UUID"): str,
    ("ipaddress", "IPv4Address"): str,
    ("ipaddress", "IPv6Address"): str,
    ("ipaddress", "IPv4Interface"): str,
    ("ipaddress", "IPv6Interface"): str,
    ("ipaddress", "IPv4Network"): str,
    ("ipaddress", "IPv6Network"): str,
}
"""By name, so that a program which sends none of them imports none of them."""


def _encode_by_base(value: Any) -> str:
    """The rule of the nearest base class, remembered for the type itself."""
    cls = type(value)
    for base in cls.__mro__:
        encode = _ENCODERS.get(base) or _BY_NAME.get((base.__module__, base.__qualname__))
        if encode is not None:
            _ENCODERS[cls] = encode
            return encode(value)
    for method, encode in (
        ("__index__", _encode_index),
        ("__float__", _encode_float_like),
    ):  # numbers of other packages
        if hasattr(cls, method):
            _ENCODERS[cls] = encode
            return encode(value)
    raise _no_rule(value)


def _encode_index(value: Any) -> str:
    try:
        return _encode_int(value.__index__())
    except TypeError:
        raise _no_rule(value) from None


def _encode_float_like(value: Any) -> str:
    try:
        return _encode_float(float(value))
    except (TypeError, ValueError):
        raise _no_rule(value) from None


def _no_rule(value: Any) -> InterfaceError:
    """Also for what has the methods of a number and is none, such as an array of them."""
    cls = type(value)
    return InterfaceError(
        f"cannot send a parameter of type {cls.__module__}.{cls.__qualname__}; convert it to text first"
    )
