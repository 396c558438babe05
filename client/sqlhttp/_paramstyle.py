"""DB-API's `pyformat` placeholders (`%s`, `%(name)s`) become Postgres's `$1`, `$2`, … Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlhttp._errors import ProgrammingError

_PERCENT = re.compile(r"%(?:\((?P<name>[^)]*)\))?(?P<kind>.?)", re.DOTALL)


def numbered(operation: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> tuple[str, tuple[Any, ...]]:
    """The statement with `$n` in it, and its parameters in order.

    Without parameters the text is left as it is, so that `like '%a'` needs no doubled percent sign then.

    Raises:
        ProgrammingError: placeholders and parameters do not fit.
    """
    if parameters is None:
        return operation, ()
    if isinstance(parameters, Mapping):
        return _named(operation, parameters)
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence):
        raise ProgrammingError(f"parameters are a sequence or a mapping, not {type(parameters).__name__}")
    return _positional(operation, parameters)


def _positional(operation: str, parameters: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    number = 0

    def mark(match: re.Match[str]) -> str:
        nonlocal number
        if match["kind"] == "%" and match["name"] is None:
            return "%"
        if match["name"] is not None:
            raise ProgrammingError(f"{match.group()} needs a mapping of parameters, not a sequence")
        _check_kind(match)
        number += 1
        return f"${number}"

    text = _PERCENT.sub(mark, operation)
    if number != len(parameters):
        raise ProgrammingError(f"the statement has {number} placeholders and {len(parameters)} parameters")
    return text, tuple(parameters)


def _named(operation: str, parameters: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    numbers: dict[str, int] = {}

    def mark(match: re.Match[str]) -> str:
        name = match["name"]
        if match["kind"] == "%" and name is None:
            return "%"
        _check_kind(match)
        if name is None:
            raise ProgrammingError("%s needs a sequence of parameters, not a mapping")
        if name not in parameters:
            raise ProgrammingError(f"there is no parameter {name!r}")
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    text = _PERCENT.sub(mark, operation)
    return text, tuple(parameters[name] for name in numbers)


def _check_kind(match: re.Match[str]) -> None:
    if match["kind"] != "s":
        raise ProgrammingError(
            f"{match.group()!r} is no placeholder; there are %s, %(name)s, and %% for a percent sign"
        )
