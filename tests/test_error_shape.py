"""Every error of the gateway, on both wires: the JSON of POST /sql and the ErrorResponse of a tunnel."""

import inspect
import json
from collections.abc import Iterator

import pytest

from sqlhttp_gateway import errors
from sqlhttp_gateway.errors import GatewayError, KeyReused, PostgresError
from sqlhttp_gateway.neon.response import encode_error
from sqlhttp_gateway.reply import error_reply
from sqlhttp_gateway.wire.backend import decode_error, encode_error_response

KEYS = [
    "message",
    "code",
    "detail",
    "hint",
    "position",
    "internalPosition",
    "internalQuery",
    "severity",
    "where",
    "table",
    "column",
    "schema",
    "dataType",
    "constraint",
    "file",
    "line",
    "routine",
]
"""Neon's, in Neon's order; its driver looks for each of them."""

OF_POSTGRES = {
    "S": "ERREUR",
    "V": "ERROR",
    "C": "23505",
    "M": 'duplicate key value violates unique constraint "t_pkey"',
    "D": "Key (id)=(1) already exists.",
    "H": "Choose another.",
    "P": "18",
    "W": "PL/pgSQL function f() line 3",
    "s": "public",
    "t": "t",
    "c": "id",
    "d": "int4",
    "n": "t_pkey",
    "F": "nbtinsert.c",
    "L": "666",
    "R": "_bt_check_unique",
}


def all_errors() -> Iterator[GatewayError]:
    """One of each class, with the usual things to say."""
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, PostgresError):
            yield kind(dict(OF_POSTGRES))
        elif issubclass(kind, GatewayError):
            yield kind("no connection came free within 5 s", hint="Raise pool.max_size.", retry_after=1)


each_error = pytest.mark.parametrize("error", list(all_errors()), ids=lambda error: type(error).__name__)


@each_error
def test_json_has_every_key_of_neon_and_no_other(error: GatewayError) -> None:
    body = json.loads(encode_error(error))
    assert list(body) == KEYS
    assert all(value is None or isinstance(value, str) for value in body.values())


@each_error
def test_json_and_wire_tell_the_same(error: GatewayError) -> None:
    body = json.loads(encode_error(error))
    frame = encode_error_response(error)
    assert frame[:1] == b"E"
    assert int.from_bytes(frame[1:5]) == len(frame) - 1
    fields = decode_error(frame[5:])
    assert body["message"] == fields["M"]
    assert body["code"] == fields["C"]
    assert body["hint"] == fields.get("H")
    # What a program needs to know an error by is there on both wires: Prisma's adapter wants a severity in each.
    assert len(body["code"]) == 5
    assert body["severity"]
    assert fields["S"]


@each_error
def test_http_says_what_a_driver_can_do_with_it(error: GatewayError) -> None:
    reply = error_reply(error, "00000000-0000-4000-a000-000000000000")
    headers = dict(reply.headers)
    assert reply.status == error.status
    assert 400 <= reply.status < 600
    if not isinstance(error, KeyReused):  # 422 is the standard's word, and only who knows that header can get it
        assert reply.status not in (401, 403, 422), "Neon's driver reads the fields of a 400 only"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"access-control-allow-origin"] == b"*"
    if error.retry_after is not None:
        assert headers[b"retry-after"] == b"1"
    else:
        assert b"retry-after" not in headers


@each_error
def test_refusal_that_is_worth_another_try_is_no_client_error_to_http(error: GatewayError) -> None:
    if error.status == 503:
        assert error.retryable
        assert not error.may_have_run


def test_error_of_postgres_is_passed_on_whole() -> None:
    error = PostgresError(OF_POSTGRES)
    assert json.loads(encode_error(error)) == {
        "message": OF_POSTGRES["M"],
        "code": "23505",
        "detail": OF_POSTGRES["D"],
        "hint": OF_POSTGRES["H"],
        "position": "18",
        "internalPosition": None,
        "internalQuery": None,
        "severity": "ERREUR",
        "where": OF_POSTGRES["W"],
        "table": "t",
        "column": "id",
        "schema": "public",
        "dataType": "int4",
        "constraint": "t_pkey",
        "file": "nbtinsert.c",
        "line": "666",
        "routine": "_bt_check_unique",
    }
    assert decode_error(encode_error_response(error)[5:]) == OF_POSTGRES


def test_position_in_a_query_of_postgres_own_is_told_only_without_one_in_the_callers() -> None:
    inside = {"S": "ERROR", "C": "42601", "M": "syntax error", "p": "3", "q": "selct 1"}
    body = json.loads(encode_error(PostgresError(inside)))
    assert (body["position"], body["internalPosition"], body["internalQuery"]) == (None, "3", "selct 1")
    body = json.loads(encode_error(PostgresError({**inside, "P": "9"})))
    assert (body["position"], body["internalPosition"], body["internalQuery"]) == ("9", None, None)


@pytest.mark.parametrize("text", ["", "é☃", "a\0b", 'quo"te\\', "line\nbreak", "lone \udcff surrogate"])
def test_any_text_can_be_told(text: str) -> None:
    for error in (GatewayError(text, hint=text), PostgresError({"S": "ERROR", "C": "XX000", "M": text, "D": text})):
        assert list(json.loads(encode_error(error))) == KEYS
        frame = encode_error_response(error)
        assert int.from_bytes(frame[1:5]) == len(frame) - 1
        assert decode_error(frame[5:])["C"] == "XX000"
