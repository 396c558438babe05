"""Answers byte for byte: results, batches and errors."""

import json
from collections.abc import Iterator

import pytest

from sqlhttp_gateway import errors
from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.model import ArrayType, Options, Result
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.neon.response import NOT_SUPPORTED, encode_arrived, encode_batch, encode_error, encode_result
from tests.support.rows import result

RAW = Options(raw_text=True)
KEYS = [
    "message", "code", "detail", "hint", "position", "internalPosition", "internalQuery", "severity", "where", "table",
    "column", "schema", "dataType", "constraint", "file", "line", "routine",
]  # fmt: skip


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FIELD = '{"name":"n","dataTypeID":23,"tableID":0,"columnID":0,"dataTypeSize":-1,"dataTypeModifier":-1,"format":"text"}'


@pytest.mark.parametrize(
    ("options", "array_mode", "rows"),
    [
        (RAW, True, '[["1"],[null]]'),
        (RAW, False, '[{"n":"1"},{"n":null}]'),
        (Options(), True, "[[1],[null]]"),
        (Options(), False, '[{"n":1},{"n":null}]'),
    ],
)
def test_one_result_in_each_mode(options: Options, array_mode: bool, rows: str) -> None:
    encoded = encode_result(
        result([("n", 23)], [(b"1",), (None,)]), options, array_mode=array_mode, array_types={}
    ).decode()
    mode = "true" if array_mode else "false"
    assert encoded == f'{{"fields":[{FIELD}],"rows":{rows},"command":"SELECT","rowCount":2,"rowAsArray":{mode}}}'


def test_the_mode_of_the_statement_wins_over_that_of_the_headers() -> None:
    options = Options(raw_text=True, array_mode=True)
    encoded = encode_result(result(["n"], [(b"1",)]), options, array_mode=False, array_types={})
    assert json.loads(encoded)["rows"] == [{"n": "1"}]
    assert json.loads(encoded)["rowAsArray"] is False


@pytest.mark.parametrize("array_mode", [True, False])
def test_rows_that_were_read_as_they_came_are_answered_alike_in_pieces_or_whole(array_mode: bool) -> None:
    kept = result(["n", "t"], [(b"%d" % row, "ÿ".encode()) for row in range(1000)])
    assert kept.description is not None
    reader = READINGS[array_mode, True](kept.description)
    assert reader is not None
    reader.keep(kept.rows, kept.row_count)
    arrived = kept._replace(rows=b"", read=reader)
    pieces = encode_arrived(arrived, array_mode=array_mode)
    whole = encode_result(kept, RAW, array_mode=array_mode, array_types={})
    assert bytes(pieces) == encode_result(arrived, RAW, array_mode=array_mode, array_types={}) == whole
    assert len(pieces) == len(whole)
    assert repr(pieces) == f"Pieces(size={len(whole)})"


def test_names_and_values_beyond_ascii() -> None:
    answer = result(["größe", "ÿ"], [("zoë".encode(), None)])
    encoded = encode_result(answer, RAW, array_mode=False, array_types={})
    assert '"rows":[{"größe":"zoë","ÿ":null}]' in encoded.decode()
    assert [field["name"] for field in json.loads(encoded)["fields"]] == ["größe", "ÿ"]


def test_a_result_without_rows_still_has_its_fields() -> None:
    encoded = json.loads(encode_result(result(["a", "b"], []), RAW, array_mode=True, array_types={}))
    assert [field["name"] for field in encoded["fields"]] == ["a", "b"]
    assert encoded["rows"] == []
    assert encoded["rowCount"] == 0


def test_a_statement_that_returns_nothing() -> None:
    for options in (RAW, Options()):
        encoded = encode_result(Result(None, b"", 0, b"CREATE TABLE"), options, array_mode=False, array_types={})
        assert encoded == b'{"fields":[],"rows":[],"command":"CREATE","rowCount":null,"rowAsArray":false}'


def test_rows_without_columns() -> None:
    rows = Result(b"\0\0", b"D\0\0\0\6\0\0" * 2, 2, b"SELECT 2")
    assert b'"rows":[[],[]]' in encode_result(rows, RAW, array_mode=True, array_types={})
    assert b'"rows":[{},{}]' in encode_result(rows, RAW, array_mode=False, array_types={})
    assert b'"rows":[{},{}]' in encode_result(rows, Options(), array_mode=False, array_types={})


def test_arrays_of_the_catalog_in_typed_values() -> None:
    answer = result([("moods", 20_001), ("n", 23)], [(b"{sad,NULL}", b"1")])
    encoded = encode_result(answer, Options(), array_mode=True, array_types={20_001: ArrayType(20_000)})
    assert json.loads(encoded)["rows"] == [[["sad", None], 1]]
    encoded = encode_result(answer, Options(), array_mode=True, array_types={})
    assert json.loads(encoded)["rows"] == [["{sad,NULL}", 1]]
    encoded = encode_result(answer, RAW, array_mode=True, array_types={20_001: ArrayType(20_000)})
    assert json.loads(encoded)["rows"] == [["{sad,NULL}", "1"]]


@pytest.mark.parametrize(
    ("tag", "command", "row_count"),
    [
        (b"SELECT 3", "SELECT", 3),
        (b"INSERT 0 3", "INSERT", 3),
        (b"INSERT 0 0", "INSERT", 0),
        (b"UPDATE 2", "UPDATE", 2),
        (b"DELETE 0", "DELETE", 0),
        (b"MERGE 1", "MERGE", 1),
        (b"FETCH 5", "FETCH", 5),
        (b"MOVE 5", "MOVE", 5),
        (b"COPY 9223372036854775807", "COPY", 9223372036854775807),
        (b"CREATE TABLE", "CREATE", None),
        (b"REFRESH MATERIALIZED VIEW", "REFRESH", None),
        (b"START TRANSACTION", "START", None),
        (b"BEGIN", "BEGIN", None),
        (b"SET", "SET", None),
        (b"INSERT", "INSERT", None),
        (b"INSERT 1", "INSERT", None),
        (b"SELECT -1", "SELECT", None),
        (b"SELECT 1_0", "SELECT", None),
        ("SELECT ٣".encode(), "SELECT", None),
        (b'X"\xff 1', 'X"\ufffd', 1),
        (b"", "", None),
        (None, "", None),
    ],
)
def test_command_and_row_count_from_the_tag(tag: bytes | None, command: str, row_count: int | None) -> None:
    encoded = json.loads(encode_result(Result(None, b"", 0, tag), RAW, array_mode=True, array_types={}))
    assert list(encoded) == ["fields", "rows", "command", "rowCount", "rowAsArray"]
    assert (encoded["command"], encoded["rowCount"]) == (command, row_count)


def test_a_batch_holds_its_results_and_nothing_else() -> None:
    assert encode_batch([]) == b'{"results":[]}'
    assert encode_batch([b'{"a":1}', b'{"b":2}']) == b'{"results":[{"a":1},{"b":2}]}'


def test_the_body_for_paths_that_are_not_served_is_a_json_string() -> None:
    assert json.loads(NOT_SUPPORTED) == "query is not supported"


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_field_of_postgres_is_passed_on_as_text() -> None:
    fields = {
        "S": "FEHLER", "V": "ERROR", "C": "23505", "M": "doppelter Schlüssel", "D": "detail", "H": "hint", "P": "18",
        "W": "where", "s": "public", "t": "t", "c": "id", "d": "int4", "n": "t_pkey", "F": "nbtinsert.c", "L": "3665",
        "R": "_bt_check_unique",
    }  # fmt: skip
    assert encode_error(PostgresError(fields)).decode() == (
        '{"message":"doppelter Schlüssel","code":"23505","detail":"detail","hint":"hint","position":"18",'
        '"internalPosition":null,"internalQuery":null,"severity":"FEHLER","where":"where","table":"t","column":"id",'
        '"schema":"public","dataType":"int4","constraint":"t_pkey","file":"nbtinsert.c","line":"3665",'
        '"routine":"_bt_check_unique"}'
    )


def test_a_position_in_the_statement_hides_the_internal_one() -> None:
    told = json.loads(encode_error(PostgresError({"M": "m", "P": "1", "p": "2", "q": "SELECT"})))
    assert (told["position"], told["internalPosition"], told["internalQuery"]) == ("1", None, None)
    told = json.loads(encode_error(PostgresError({"M": "m", "p": "2", "q": "SELECT"})))
    assert (told["position"], told["internalPosition"], told["internalQuery"]) == (None, "2", "SELECT")


def test_what_drivers_need_as_text_is_text_even_from_an_empty_error() -> None:
    told = json.loads(encode_error(PostgresError({})))
    assert (told["message"], told["code"], told["severity"]) == ("", "", "")


def classes_of_errors(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for each in root.__subclasses__():
        yield from classes_of_errors(each)


@pytest.mark.parametrize("kind", list(classes_of_errors()), ids=lambda kind: kind.__name__)
def test_every_error_has_all_keys_in_order_and_texts_where_drivers_look(kind: type[GatewayError]) -> None:
    error = kind({"M": "told", "C": "57P03", "S": "FATAL"}) if issubclass(kind, PostgresError) else kind("told")
    told = json.loads(encode_error(error))
    assert list(told) == KEYS
    assert told["message"] == "told"
    assert len(told["code"]) == 5
    assert told["severity"] in {"ERROR", "FATAL"}


@pytest.mark.parametrize(
    ("error", "code", "severity"),
    [
        (errors.PasswordFailed('password authentication failed for user "x"'), "28P01", "FATAL"),
        (errors.CredentialsMissing("m"), "28000", "FATAL"),
        (errors.WaitTimeout("m"), "53300", "FATAL"),
        (errors.TargetUnavailable("m"), "08001", "FATAL"),
        (errors.ConnectionBroken("m"), "08006", "FATAL"),
        (errors.BadRequest("m"), "08P01", "ERROR"),
        (errors.ResponseTooLarge("m"), "54000", "ERROR"),
        (errors.StatementTimeout("m"), "57014", "ERROR"),
        (errors.GatewayError("m"), "XX000", "ERROR"),
    ],
)
def test_the_gateways_own_errors_speak_like_postgres(error: GatewayError, code: str, severity: str) -> None:
    told = json.loads(encode_error(error))
    assert (told["code"], told["severity"]) == (code, severity)
    assert told["message"] == error.message


def test_a_hint_is_told() -> None:
    assert json.loads(encode_error(errors.BadRequest("m", hint="do this")))["hint"] == "do this"
    assert json.loads(encode_error(errors.BadRequest("m")))["hint"] is None


def test_an_error_is_told_even_if_its_text_is_no_unicode() -> None:
    told = json.loads(encode_error(PostgresError({"M": "a\udcffb", "C": "XX000", "S": "ERROR"})))
    assert (told["message"], told["code"], told["hint"]) == ("a?b", "XX000", None)
