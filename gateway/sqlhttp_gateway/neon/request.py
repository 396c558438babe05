"""The body of a request becomes a Statement or a Batch.

orjson reads the usual body. A body with numbers whose digits it would lose, or with a known member that may be given
twice, is read once more by the standard library, which is slower but hides nothing. A value becomes a parameter in
`neon.params`; what the statement then does is nothing to this file.
"""

import json
import re
from typing import Any, NoReturn

import orjson

from sqlhttp_gateway.errors import BadRequest, EncodedBody, GatewayError, RequestTooLarge, StatementTooComplex
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon.params import Number, param_from_json

MAX_PARAMS = 65535
"""Bind counts its parameters in 16 bits."""

MAX_STATEMENTS = 10_000
"""Of one batch. Half a million of them fit into a body and would hold up everybody else for seconds."""

MAX_NESTED = 1000
"""Comments within comments. Postgres takes a time that grows with their square, in which it hears of no timeout and no
cancel: 5,000 take it half a second, 40,000 half a minute."""
_SHORT = 2 * MAX_NESTED
"""Characters in which so many do not fit."""
_COMMENT_MARK = re.compile(r"/\*|\*/")

_PREFIX = "could not parse the HTTP request body: "
_OF_STATEMENT = ("query", "params", "arrayMode")
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
"""With one of these a member's name can be spelled so that counting the name misses it."""


class _Inexact(Exception):
    """A parameter is of a kind that orjson may not have kept as it was written."""


def decode_request(body: bytes) -> Statement | Batch:
    """What the program asks for.

    An object with "query" is one statement, else one with "queries" is a batch; members not known are passed over.

    Raises:
        BadRequest: the body is no JSON, not of that shape, or holds what Postgres's wire cannot.
        RequestTooLarge: a batch has more than MAX_STATEMENTS.
        StatementTooComplex: comments are nested deeper than MAX_NESTED.
    """
    try:
        try:
            payload = orjson.loads(body)
            usual = _usual(payload, body)
            if usual is not None:
                return usual
            request, members = _request(payload, exact=False)
        except orjson.JSONDecodeError as error:
            if not body:
                raise _refusal("EOF while parsing a value at line 1 column 0") from None
            if "infinity" not in error.msg:
                raise
            # A number that no float can hold, such as 1e999, is a fine numeric to Postgres.
            request, members = _request(_loads_exactly(body), exact=True)
        except _Inexact:
            request, members = _request(_loads_exactly(body), exact=True)
        named = body.count(b'"query"') + body.count(b'"params"') + body.count(b'"arrayMode"') + body.count(b'"queries"')
        if named != members or (b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None):
            _refuse_duplicates(body)
    except UnicodeError:
        raise _refusal("a string has a lone surrogate") from None
    except RecursionError:
        raise _refusal("values are nested too deeply") from None
    except ValueError as error:
        raise _refusal(str(error)) from None
    return request


def why_unread(error: GatewayError, coding: bytes) -> GatewayError:
    """What to say instead of `error`, where it is that a body of this Content-Encoding could not be read."""
    if not error.message.startswith(_PREFIX):
        return error
    return EncodedBody(
        f"the body came with content-encoding {coding[:40].decode('ascii', 'replace')}, which is not undone",
        hint="Send it as it is.",
    )


def _usual(payload: Any, body: bytes) -> Statement | None:
    """A statement as drivers send it: ASCII, with nothing but texts for parameters. None is no refusal.

    Every rule that could refuse it is a single look here, which takes a third of the time of the long way.
    """
    if (
        type(payload) is not dict
        or len(payload) != 2
        or body.count(b'"query"') != 1
        or body.count(b'"params"') != 1
        or b"\\u00" in body
    ):
        return None
    text, values = payload.get("query"), payload.get("params")
    if type(text) is not str or type(values) is not list or not text.isascii() or "\0" in text:
        return None
    if len(text) > _SHORT:
        return None
    if len(values) == 1:  # a lookup by key
        value = values[0]
        return Statement(text, (value.encode(),)) if type(value) is str else None
    params = tuple([value.encode() for value in values if type(value) is str])
    return Statement(text, params) if len(params) == len(values) <= MAX_PARAMS else None


def _request(payload: Any, *, exact: bool) -> tuple[Statement | Batch, int]:
    """The request, and how many members with known names it was made of."""
    if type(payload) is not dict:
        raise _refusal("it is not an object")
    if "query" in payload:
        return _statement(payload, exact=exact)
    queries = payload.get("queries")
    if type(queries) is not list:
        raise _refusal('"queries" must be an array' if "queries" in payload else '"query" is missing')
    if len(queries) > MAX_STATEMENTS:
        raise RequestTooLarge(f"a batch has at most {MAX_STATEMENTS} statements, not {len(queries)}")
    statements = []
    members = 1
    for query in queries:
        if type(query) is not dict:
            raise _refusal('each of "queries" must be an object')
        statement, own = _statement(query, exact=exact)
        statements.append(statement)
        members += own
    return Batch(tuple(statements)), members


def _statement(given: dict[str, Any], *, exact: bool) -> tuple[Statement, int]:
    members = 1
    text = given.get("query")
    if type(text) is not str:
        raise _refusal('"query" must be a string' if "query" in given else '"query" is missing')
    if "\0" in text:
        raise BadRequest("the query contains a NUL character, which Postgres cannot read")
    if not text.isascii():
        text.encode()  # raises where a lone surrogate would otherwise fail on the way to Postgres
    if len(text) > _SHORT:
        _refuse_nested(text)
    params: tuple[bytes | None, ...] = ()
    if "params" in given:
        params = _params(given["params"], exact=exact)
        members = 2
    if "arrayMode" not in given:
        return Statement(text, params), members
    array_mode = given["arrayMode"]
    if array_mode is not None and type(array_mode) is not bool:
        raise _refusal('"arrayMode" must be a boolean')
    return Statement(text, params, array_mode), members + 1


def _refuse_nested(text: str) -> None:
    """What only looks like a comment, in a string for instance, counts, too."""
    if text.count("/*") <= MAX_NESTED:
        return
    depth = 0
    for mark in _COMMENT_MARK.finditer(text):
        depth = depth + 1 if mark[0] == "/*" else max(0, depth - 1)
        if depth > MAX_NESTED:
            raise StatementTooComplex(f"the query has comments within comments, more than {MAX_NESTED} deep")


def _params(values: Any, *, exact: bool) -> tuple[bytes | None, ...]:
    if type(values) is not list:
        raise _refusal('"params" must be an array')
    if len(values) > MAX_PARAMS:
        raise BadRequest(f"a statement takes at most {MAX_PARAMS} parameters, not {len(values)}")
    params: list[bytes | None] = []
    for value in values:
        kind = type(value)
        if kind is str:
            params.append(value.encode())
        elif value is None:
            params.append(None)
        elif exact or kind is bool or (kind is int and value != 0):  # 0 may have been written -0
            params.append(param_from_json(value))
        else:
            raise _Inexact
    return tuple(params)


def _loads_exactly(body: bytes) -> Any:
    """The payload with a Number wherever int or float would change a number's text."""
    return json.loads(body.decode(), parse_float=Number, parse_int=_integer, parse_constant=_constant)


def _integer(text: str) -> int | Number:
    # Eighteen characters always fit 64 bits, which is what orjson can write.
    return Number(text) if len(text) > 18 or text == "-0" else int(text)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Members(list[tuple[str, Any]]):
    """An object's members as they stand in the body, duplicates included."""

    def refuse_duplicates(self, known: tuple[str, ...]) -> None:
        names = [name for name, _ in self]
        for name in known:
            if names.count(name) > 1:
                raise _refusal(f'duplicate field "{name}"')


def _refuse_duplicates(body: bytes) -> None:
    """Look at every member that means something. The body is known to have a request's shape."""
    payload = json.loads(body.decode(), object_pairs_hook=_Members, parse_int=str)
    members = dict(payload)
    if "query" in members:
        payload.refuse_duplicates(_OF_STATEMENT)
        return
    payload.refuse_duplicates(("queries",))
    for query in members["queries"]:
        query.refuse_duplicates(_OF_STATEMENT)


def _refusal(reason: str) -> BadRequest:
    return BadRequest(_PREFIX + reason)
