"""Array literals: the text that Postgres prints for an array becomes lists. The other way is in `_params`."""

import re
from collections.abc import Callable
from typing import Any

# Spaces as in Postgres's array_isspace; Python's \s has more, with which an unquoted element may begin.
_TOKEN = {
    delimiter: re.compile(
        rf'[ \t\n\r\v\f]*(?:([{{}}{delimiter}])|"((?:[^"\\]|\\.)*)"|((?:[^{{}}"\\{delimiter}]|\\.)+))',
        re.DOTALL,
    )
    for delimiter in ",;"
}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def decode_array(text: str, element: Callable[[str], Any] | None, *, delimiter: str = ",") -> list[Any]:
    """Lists as deep as the array has dimensions; NULL is None. `element` converts an element's text, None keeps it.

    Bounds that do not begin at 1 (`[0:1]={…}`) are left out: a Python list begins where it begins.

    Raises:
        ValueError: the text is no array literal.
    """
    if text[:1] == "[":
        text = text[text.index("=") + 1 :]
    if text[:1] != "{" or text[-1:] != "}":
        raise ValueError("not an array literal")
    if text == "{}":
        return []
    if '"' not in text and "\\" not in text and "{" not in text[1:] and "}" not in text[:-1]:
        items = text[1:-1].split(delimiter)
        if element is None:
            return [None if item == "NULL" else item for item in items]
        return [None if item == "NULL" else element(item) for item in items]
    return _nested(text, element, _TOKEN[delimiter])


def _nested(text: str, element: Callable[[str], Any] | None, token: re.Pattern[str]) -> list[Any]:
    outer: list[Any] = []
    stack = [outer]
    position = 0
    while position < len(text):
        match = token.match(text, position)
        if match is None:
            raise ValueError("not an array literal")
        position = match.end()
        mark, quoted, bare = match.groups()
        if mark == "{":
            inner: list[Any] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif mark == "}":
            stack.pop()
            if not stack:
                raise ValueError("not an array literal")
        elif mark is None:
            if bare == "NULL":
                stack[-1].append(None)
                continue
            value = quoted if quoted is not None else bare
            if "\\" in value:
                value = _ESCAPE.sub(r"\1", value)
            stack[-1].append(value if element is None else element(value))
    if len(stack) != 1 or len(outer) != 1 or not isinstance(outer[0], list):
        raise ValueError("not an array literal")
    return outer[0]
