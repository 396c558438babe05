"""`%s` and `%(name)s` become `$1`, `$2`, …"""

from typing import Any

import pytest

from sqlhttp import ProgrammingError
from sqlhttp._paramstyle import numbered


@pytest.mark.parametrize(
    ("operation", "parameters", "text", "params"),
    [
        ("select 1", None, "select 1", ()),
        ("select '%a', $1", None, "select '%a', $1", ()),
        ("select 1", (), "select 1", ()),
        ("select %s, %s", (1, 2), "select $1, $2", (1, 2)),
        ("select %s like 'a%%'", ["x"], "select $1 like 'a%'", ("x",)),
        ("select %(a)s, %(b)s, %(a)s", {"b": 2, "a": 1, "c": 3}, "select $1, $2, $1", (1, 2)),
        ("select '%%'", {}, "select '%'", ()),
    ],
)
def test_placeholders_are_numbered(operation: str, parameters: Any, text: str, params: tuple[Any, ...]) -> None:
    assert numbered(operation, parameters) == (text, params)


@pytest.mark.parametrize(
    ("operation", "parameters", "words"),
    [
        ("select %s", (), "1 placeholders and 0 parameters"),
        ("select 1", (1,), "0 placeholders and 1 parameters"),
        ("select %(a)s", (1,), "needs a mapping"),
        ("select %s", {"a": 1}, "needs a sequence"),
        ("select %(b)s", {"a": 1}, "no parameter 'b'"),
        ("select %d", (1,), "'%d' is no placeholder"),
        ("select 10 %", (), "no placeholder"),
        ("select %(a)d", {"a": 1}, "no placeholder"),
        ("select %s", "x", "not str"),
        ("select %s", 5, "not int"),
    ],
)
def test_what_does_not_fit_is_refused(operation: str, parameters: Any, words: str) -> None:
    with pytest.raises(ProgrammingError, match=words):
        numbered(operation, parameters)
