"""The frames that the gateway reads from Postgres, and those it says in Postgres's place."""

import pytest

from sqlhttp_gateway.errors import GatewayError, PostgresError, WaitTimeout
from sqlhttp_gateway.model import Field
from sqlhttp_gateway.wire import backend

# Postgres 18's answer to SELECT 1/0
DIVISION_BY_ZERO = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0Fint.c\0L846\0Rint4div\0\0"


def test_error_fields_come_out_in_their_order() -> None:
    assert list(backend.decode_error(DIVISION_BY_ZERO).items()) == [
        ("S", "ERROR"),
        ("V", "ERROR"),
        ("C", "22012"),
        ("M", "division by zero"),
        ("F", "int.c"),
        ("L", "846"),
        ("R", "int4div"),
    ]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"\0", {}),
        (b"C220", {}),
        (b"SERROR\0C220", {"S": "ERROR"}),
        (b"SERROR\0", {"S": "ERROR"}),
        (b"M\0\0", {"M": ""}),
        (b"Mfirst\0Msecond\0\0", {"M": "first"}),
        (b"Mgr\xf6\xdfe\0\0", {"M": "gr\ufffd\ufffde"}),
        (b"\xe9x\0\0", {"\xe9": "x"}),
    ],
)
def test_damaged_error_gives_what_is_whole(body: bytes, fields: dict[str, str]) -> None:
    assert backend.decode_error(body) == fields


def test_postgres_error_goes_out_as_it_came_in() -> None:
    error = PostgresError(backend.decode_error(DIVISION_BY_ZERO))
    frame = backend.encode_error_response(error, severity="FATAL")
    assert frame == b"E" + (len(DIVISION_BY_ZERO) + 4).to_bytes(4) + DIVISION_BY_ZERO


def test_gateway_error_says_severity_code_message_and_hint() -> None:
    frame = backend.encode_error_response(WaitTimeout("no connection within 5 s", hint="raise pool.max_size"))
    assert frame == b"E\0\0\0\x49SERROR\0VERROR\0C53300\0Mno connection within 5 s\0Hraise pool.max_size\0\0"
    assert backend.decode_error(backend.encode_error_response(GatewayError("no"), severity="FATAL")[5:]) == {
        "S": "FATAL",
        "V": "FATAL",
        "C": "XX000",
        "M": "no",
    }


def test_text_that_would_tear_the_frame_apart_is_tamed() -> None:
    frame = backend.encode_error_response(GatewayError("a\0b\udcff"))
    assert backend.decode_error(frame[5:])["M"] == "ab?"


def test_log_in_frames() -> None:
    assert backend.encode_authentication_sasl(["SCRAM-SHA-256"]) == b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
    assert backend.encode_authentication_sasl_continue(b"r=x") == b"R\0\0\0\x0b\0\0\0\x0br=x"
    assert backend.encode_authentication_sasl_final(b"v=x") == b"R\0\0\0\x0b\0\0\0\x0cv=x"
    assert backend.encode_parameter_status("TimeZone", "UTC") == b"S\0\0\0\x11TimeZone\0UTC\0"
    assert backend.encode_backend_key_data(7, b"abcd") == b"K\0\0\0\x0c\0\0\0\x07abcd"
    assert backend.encode_ready_for_query(backend.IDLE) == b"Z\0\0\0\x05I"


def test_protocol_negotiation_names_the_whole_version_as_postgres_does() -> None:
    # Postgres 18's own answer to a start-up message for 3.9 with _pq_.x, but for the version it knows
    assert backend.encode_negotiate_protocol_version(["_pq_.x"]) == b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0"


def test_rows_of_text() -> None:
    name = Field(name="database", table_id=0, column_id=0, type_id=25, type_size=-1, type_modifier=-1)
    assert backend.encode_row_description([name]) == (
        b"T\0\0\0\x21\0\x01database\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
    )
    assert backend.encode_data_row([b"main", None, b""]) == (b"D\0\0\0\x16\0\x03\0\0\0\x04main\xff\xff\xff\xff\0\0\0\0")
    assert backend.encode_command_complete("SHOW") == b"C\0\0\0\x09SHOW\0"
    assert backend.encode_notice_response("hello") == b"N\0\0\0\x23SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"
