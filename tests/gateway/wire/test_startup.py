"""Start-up messages as drivers send them, and those that a pool cannot honour."""

import pytest

from sqlhttp_gateway.errors import BadRequest, CredentialsMissing, InvalidParameter, UnsupportedProtocol
from sqlhttp_gateway.wire.startup import Startup, decode_options, decode_startup, split_options


def packet(*strings: str, version: int = 3 << 16, end: bytes = b"\0") -> bytes:
    body = version.to_bytes(4) + b"".join(string.encode() + b"\0" for string in strings) + end
    return (len(body) + 4).to_bytes(4) + body


def test_start_up_of_neons_driver() -> None:
    startup = decode_startup(
        packet("user", "postgres", "database", "main", "application_name", "web", "client_encoding", "UTF8")
    )
    assert startup == Startup("postgres", "main", {"application_name": "web", "client_encoding": "UTF8"})


def test_database_is_the_role_where_none_is_named() -> None:
    assert decode_startup(packet("user", "ann")).database == "ann"
    assert decode_startup(packet("user", "ann", "database", "")).database == "ann"


def test_settings_inside_options_yield_to_those_beside_it() -> None:
    startup = decode_startup(
        packet("user", "ann", "DateStyle", "ISO", "options", "-c DateStyle=German -c search_path=a,b --geqo=off")
    )
    assert startup.parameters == {"DateStyle": "ISO", "search_path": "a,b", "geqo": "off"}


def test_newer_protocol_and_its_options_are_told_for_negotiation() -> None:
    startup = decode_startup(packet("user", "ann", "_pq_.x", "1", "_pq_.y", "2", version=(3 << 16) | 2))
    assert (startup.minor_version, startup.protocol_options, startup.parameters) == (2, ("_pq_.x", "_pq_.y"), {})


@pytest.mark.parametrize("version", [0, 2 << 16, 4 << 16, 0xFFFFFFFF])
def test_other_major_versions_are_refused(version: int) -> None:
    with pytest.raises(UnsupportedProtocol, match="unsupported frontend protocol"):
        decode_startup(packet("user", "ann", version=version))


def test_start_up_without_role_is_refused() -> None:
    with pytest.raises(CredentialsMissing, match="no PostgreSQL user name specified"):
        decode_startup(packet("database", "main"))


@pytest.mark.parametrize("value", ["true", "database", "1", "ON"])
def test_replication_is_refused(value: str) -> None:
    with pytest.raises(UnsupportedProtocol, match="replication"):
        decode_startup(packet("user", "ann", "replication", value))


@pytest.mark.parametrize("value", ["false", "off", "0", "no", ""])
def test_replication_that_is_off_is_no_wish(value: str) -> None:
    assert decode_startup(packet("user", "ann", "replication", value)).parameters == {}


@pytest.mark.parametrize(
    "strings", [("pool_mode", "session"), ("options", "pool_mode=session"), ("options", "-c pool_mode=session")]
)
def test_pool_mode_can_be_chosen(strings: tuple[str, str]) -> None:
    startup = decode_startup(packet("user", "ann", *strings))
    assert (startup.pool_mode, startup.parameters) == ("session", {})


def test_unknown_pool_mode_is_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match='"pool_mode": "statement"'):
        decode_startup(packet("user", "ann", "pool_mode", "statement"))


@pytest.mark.parametrize(
    "damaged",
    [
        packet(end=b""),
        packet("user", end=b"\0"),
        packet("user", "ann", end=b""),
        packet("user", "ann", end=b"\0\0"),
        packet("user", "ann", end=b"x"),
        packet("", "x", "user", "ann"),
        packet("user", "ann")[:-3],
        b"\0\0\0\x10\0\x03\0\0user\0\xff\0\0",
    ],
)
def test_damaged_packet_is_refused(damaged: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_startup(damaged)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", []),
        ("  ", []),
        ("a b", ["a", "b"]),
        (" a\t\n b ", ["a", "b"]),
        (r"a\ b c\\d", ["a b", r"c\d"]),
        ("a\\", ["a"]),
        (r"\  x", [" ", "x"]),
    ],
)
def test_options_are_split_as_postgres_does(options: str, words: list[str]) -> None:
    assert list(split_options(options)) == words


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (r"-c search_path=a,\ b", [("search_path", "a, b")]),
        ("-cgeqo=off --statement-timeout=5s", [("geqo", "off"), ("statement_timeout", "5s")]),
        ("-c app.user=7 -c empty=", [("app.user", "7"), ("empty", "")]),
        ("endpoint=ep-cool-1 project=p neon_proxy_params_compat:true -c geqo=off", [("geqo", "off")]),
    ],
)
def test_settings_are_found_and_neons_words_dropped(options: str, settings: list[tuple[str, str]]) -> None:
    assert list(decode_options(options)) == settings


@pytest.mark.parametrize("options", ["-d 3", "word", "-c", "-c geqo", "--geqo", "-c =x", "-B16"])
def test_words_that_would_be_ignored_are_refused(options: str) -> None:
    with pytest.raises(InvalidParameter, match='in "options"'):
        list(decode_options(options))
