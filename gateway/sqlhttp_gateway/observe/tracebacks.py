"""What the log says of an error that nobody foresaw: where it happened and of which kind, without what it quotes.

The text of a ValueError or a KeyError is often the very value that it is about, which may be a caller's. Only the texts
of kinds that speak of types, names and the system are told; of the others, where they were raised has to do.
"""

import asyncio
import traceback

from sqlhttp_gateway.errors import ConfigurationError, GatewayError, PostgresError

_TELLING = (
    GatewayError,
    ConfigurationError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    AssertionError,
    asyncio.InvalidStateError,
)
"""Errors whose texts quote no value: Python's own, and ours."""
_QUOTING = (PostgresError, UnicodeError)
WITHHELD = "(its text is not written, since it may quote a value)"


def told(error: BaseException) -> str:
    """A traceback with everything that led to `error`, without a line's end."""
    parts: list[str] = []
    seen: set[int] = set()
    _tell(error, parts, seen)
    return "".join(parts).rstrip()


def _tell(error: BaseException, parts: list[str], seen: set[int]) -> None:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        _tell(cause, parts, seen)
        parts.append("\nand then, because of it:\n\n" if error.__cause__ else "\nand then, while it was handled:\n\n")
    parts.append("Traceback (most recent call last):\n")
    parts += traceback.format_tb(error.__traceback__)
    parts.append(f"{_name(type(error))}: {_text(error)}\n")
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if id(each) not in seen:
                parts.append("\none of these:\n\n")
                _tell(each, parts, seen)


def _name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    if isinstance(error, _TELLING) and not isinstance(error, _QUOTING):
        return str(error)
    return WITHHELD if str(error) else ""
