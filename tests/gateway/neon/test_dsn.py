"""Connection strings: Neon's checks in Neon's order, Postgres's defaults, and nothing of the string in an error."""

from urllib.parse import quote

import pytest

from sqlhttp_gateway.errors import InvalidConnectionString
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.neon.dsn import MAX_LENGTH, dsn_from_header, dsn_from_url

USUAL = Dsn("db.example.com", None, "main", "app", b"secret")


def test_the_usual_string() -> None:
    assert dsn_from_header(b"postgres://app:secret@db.example.com/main") == USUAL
    assert dsn_from_header(b"postgresql://app:secret@db.example.com/main") == USUAL
    assert dsn_from_url("postgres://app:secret@db.example.com/main") == USUAL


def test_the_string_of_neons_console() -> None:
    dsn = dsn_from_header(b"postgresql://app:secret@db.example.com/main?sslmode=require&channel_binding=require")
    assert dsn == Dsn(
        "db.example.com", None, "main", "app", b"secret", (("sslmode", "require"), ("channel_binding", "require"))
    )


def test_the_short_way_and_the_long_way_agree() -> None:
    """A trailing "#" means nothing but sends a string the long way."""
    for text in (
        b"postgres://app:secret@db.example.com/main",
        b"postgres://app:secret@db.example.com:5432/main",
        b"postgres://app:p'$^&*!+=;,~ w@10.0.0.1:1/main",
        b"postgresql://app:secret@db.example.com/main?sslmode=require",
    ):
        assert dsn_from_header(text) == dsn_from_header(text + b"#")


def test_percent_encoding_of_role_password_and_database() -> None:
    role, password, database = "http+auth$$", "%+$^&*@!", "a/b ü"
    text = f"postgres://{quote(role, safe='')}:{quote(password, safe='')}@h/{quote(database, safe='')}"
    assert dsn_from_header(text.encode()) == Dsn("h", None, database, role, password.encode())


def test_a_plus_is_a_plus() -> None:
    dsn = dsn_from_header(b"postgres://a+b:c+d@h/e+f?g+h=i+j")
    assert dsn == Dsn("h", None, "e+f", "a+b", b"c+d", (("g+h", "i+j"),))


def test_a_password_need_not_be_utf8() -> None:
    assert dsn_from_header(b"postgres://u:%ffa@h/d").password == b"\xffa"


def test_a_percent_sign_that_begins_no_escape_stands_for_itself() -> None:
    assert dsn_from_header(b"postgres://u:100%@h/d").password == b"100%"
    assert dsn_from_header(b"postgres://u:%zz%4@h/d").password == b"%zz%4"


def test_the_last_at_sign_ends_the_user_part() -> None:
    dsn = dsn_from_header(b"postgres://u:p@ss:w@h/d")
    assert (dsn.role, dsn.password, dsn.host) == ("u", b"p@ss:w", "h")


@pytest.mark.parametrize("text", [b"postgres://u@h/d", b"postgres://u:@h/d"])
def test_a_missing_password_is_for_others_to_judge(text: bytes) -> None:
    assert dsn_from_header(text) == Dsn("h", None, "d", "u", None)


def test_an_empty_database_is_the_roles_name() -> None:
    assert dsn_from_header(b"postgres://me:p@h/").database == "me"
    assert dsn_from_header(b"postgres://me:p@h//x").database == "me"


def test_only_the_first_segment_of_the_path_is_the_database() -> None:
    assert dsn_from_header(b"postgres://u:p@h/a/b").database == "a"


def test_a_fragment_is_passed_over() -> None:
    assert dsn_from_header(b"postgres://u:p@h/d?a=1#b?c=2").parameters == (("a", "1"),)


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        (b"localhost", "localhost", None),
        (b"127.0.0.1:5433", "127.0.0.1", 5433),
        (b"h:", "h", None),
        (b"h:65535", "h", 65535),
        (b"h:00080", "h", 80),
        (b"[::1]", "::1", None),
        (b"[2001:db8::7]:6543", "2001:db8::7", 6543),
        (b"my_db-1.internal.", "my_db-1.internal.", None),
    ],
)
def test_hosts_and_ports(place: bytes, host: str, port: int | None) -> None:
    dsn = dsn_from_header(b"postgres://u:p@" + place + b"/d")
    assert (dsn.host, dsn.port) == (host, port)


def test_parameters_keep_their_order_and_are_decoded() -> None:
    dsn = dsn_from_header(b"postgres://u:p@h/d?sslmode=require&&options=-c%20a%3Db&flag&empty=")
    assert dsn.parameters == (("sslmode", "require"), ("options", "-c a=b"), ("flag", ""), ("empty", ""))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "invalid header: neon-connection-string"),
        (b"", "invalid header: neon-connection-string"),
        ("postgres://ü:p@h/d".encode(), "invalid header: neon-connection-string"),
        (b"postgres://u:p@h/d\0", "invalid header: neon-connection-string"),
        (b"postgres://u:p@h/d\n", "invalid header: neon-connection-string"),
        (b"postgres://u:p@h/" + b"d" * MAX_LENGTH, "invalid header: neon-connection-string"),
        (b"zqx", "invalid connection string: relative URL without a base"),
        (b"//u:p@h/d", "invalid connection string: relative URL without a base"),
        (b"mysql://u:p@h/d", "incorrect scheme"),
        (b"postgres:zqx@h/d", "invalid connection string: no // after the scheme"),
        (b"postgres://u:p@h", "missing database name"),
        (b"postgres://", "missing database name"),
        (b"postgres://@h/d", "missing username"),
        (b"postgres://:p@h/d", "missing username"),
        (b"postgres://h/d", "missing username"),
        (b"postgres://u:p@/d", "missing hostname"),
        (b"postgres://u:p@:5432/d", "missing hostname"),
        (b"postgres://u:p@h:zqx/d", "invalid connection string: invalid port number"),
        (b"postgres://u:p@h:0/d", "invalid connection string: invalid port number"),
        (b"postgres://u:p@h:65536/d", "invalid connection string: invalid port number"),
        (b"postgres://u:p@h:999999999999/d", "invalid connection string: invalid port number"),
        (b"postgres://u:zqx/zqx@h/d", "invalid connection string: invalid port number"),
        (b"postgres://u:p@h zqx/d", "invalid connection string: invalid domain character"),
        (b"postgres://u:p@%7a%71%78/d", "invalid connection string: invalid domain character"),
        (b"postgres://u:p@[::zqx]/d", "invalid connection string: invalid IPv6 address"),
        (b"postgres://u:p@[::1/d", "invalid connection string: invalid IPv6 address"),
        (b"postgres://u:p@[::1]zqx/d", "invalid connection string: invalid IPv6 address"),
        (b"postgres://u:p@[fe80::1%zqx]/d", "invalid connection string: invalid IPv6 address"),
        (b"postgres://u:p@a:1,zqx:2/d", "invalid connection string: several hosts are not supported"),
        (b"postgres://%ff:p@h/d", "invalid username: it is not UTF-8"),
        (b"postgres://u:p@h/%ff", "invalid database name: it is not UTF-8"),
        (b"postgres://u:p@h/d?a=%ff", "invalid parameter: it is not UTF-8"),
        (b"postgres://u:p@h/d?a=1&a=zqx", "invalid connection string: a parameter is given twice"),
    ],
)
def test_what_cannot_be_used_is_refused_in_neons_words(value: bytes | None, message: str) -> None:
    with pytest.raises(InvalidConnectionString) as refused:
        dsn_from_header(value)
    assert refused.value.message == message
    assert "zqx" not in repr(refused.value) + str(refused.value.hint)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "value",
    [
        b"postgres://u%00database%00x:p@h/d",
        b"postgres://u:p%00@h/d",
        b"postgres://u:p@h/d%00",
        b"postgres://u:p@h/d?a=%00",
    ],
)
def test_a_nul_cannot_smuggle_start_up_parameters(value: bytes) -> None:
    for decode in (dsn_from_header, lambda text: dsn_from_url(text.decode())):
        with pytest.raises(InvalidConnectionString, match="NUL"):
            decode(value)


def test_repr_shows_no_password() -> None:
    assert "secret" not in repr(USUAL)


# ── from settings ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_url_of_the_settings_may_leave_out_the_database() -> None:
    assert dsn_from_url("postgres://me:p@h") == Dsn("h", None, "me", "me", b"p")


def test_a_url_of_the_settings_may_name_the_folder_of_a_socket() -> None:
    dsn = dsn_from_url("postgres://me:p@/d?host=/var/run/postgresql&port=5433&application_name=x")
    assert dsn == Dsn("/var/run/postgresql", 5433, "d", "me", b"p", (("application_name", "x"),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://me:p@%2Fvar%2Frun%2Fpostgresql/d", Dsn("/var/run/postgresql", None, "d", "me", b"p")),
        ("postgres://me:p@%2fvar%2frun:5433/d", Dsn("/var/run", 5433, "d", "me", b"p")),
        (
            "postgres://me:p@%2Fcloudsql%2Fproject%3Azone%3Aname/d",
            Dsn("/cloudsql/project:zone:name", None, "d", "me", b"p"),
        ),
        (
            "postgres://me:p@/d?host=/cloudsql/project:zone:name",
            Dsn("/cloudsql/project:zone:name", None, "d", "me", b"p"),
        ),
        ("postgres:///?host=/run&user=me&password=p%26&dbname=d", Dsn("/run", None, "d", "me", b"p&")),
        ("postgres://me@h?dbname=d", Dsn("h", None, "d", "me", None)),
        ("postgres:///d?host=/run", Dsn("/run", None, "d", "who_asks", None)),
        ("postgres://?host=/run", Dsn("/run", None, "who_asks", "who_asks", None)),
    ],
)
def test_a_socket_is_named_as_for_libpq(text: str, expected: Dsn) -> None:
    assert dsn_from_url(text, account="who_asks") == expected


def test_a_caller_cannot_name_a_socket() -> None:
    for value, message in (
        (b"postgres://u:p@%2Frun/d", "invalid connection string: invalid domain character"),
        (b"postgres://u:p@/d?host=/run", "missing hostname"),
    ):
        with pytest.raises(InvalidConnectionString) as refused:
            dsn_from_header(value)
        assert refused.value.message == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid connection string: relative URL without a base"),
        ("postgres:///d", "missing username"),
        ("postgres://h/d", "missing username"),
        ("postgres://u:p@/d?host=@postgres", "invalid connection string: an abstract Unix socket is not supported"),
        ("postgres://u:p@/d?host=/run,/tmp", "invalid connection string: several hosts are not supported"),
        (
            "postgres://u:p@/d?host=/run/.s.PGSQL.5432",
            "invalid connection string: host is not the folder of the socket",
        ),
        ("postgres://u:p@%2Frun%00/d", "invalid host name: it contains a NUL character"),
        ("postgres://u:p@/d", "missing hostname"),
        ("postgres://u:p@/d?host=a,b", "invalid connection string: several hosts are not supported"),
        ("postgres://u:p@a,b/d", "invalid connection string: several hosts are not supported"),
        ("postgres://u:p@/d?host=a&port=b", "invalid connection string: invalid port number"),
        ("postgres://u:p@h/d\n", "invalid connection string: a control character in it is not percent-encoded"),
        ("postgres://u:p@h/" + "d" * MAX_LENGTH, "invalid connection string: longer than 8192 characters"),
        ("http://u:p@h/d", "incorrect scheme"),
    ],
)
def test_what_the_settings_cannot_have(text: str, message: str) -> None:
    with pytest.raises(InvalidConnectionString) as refused:
        dsn_from_url(text, account="who_asks")
    assert refused.value.message == message


def test_a_url_of_the_settings_may_hold_letters_beyond_ascii() -> None:
    assert dsn_from_url("postgres://jürgen:pä@h/d") == Dsn("h", None, "d", "jürgen", "pä".encode())
