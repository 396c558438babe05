"""Any connection string is a Dsn or an error, and what was encoded into one comes out of it."""

from urllib.parse import quote, quote_from_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sqlhttp_gateway.errors import InvalidConnectionString
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.neon.dsn import dsn_from_header, dsn_from_url

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
passwords = st.binary(min_size=1, max_size=12).map(lambda value: value.replace(b"\0", b"0"))
hosts = st.sampled_from(["h", "db.example.com", "127.0.0.1"])
ports = st.none() | st.integers(1, 65535)


@settings(max_examples=300, deadline=None)
@given(names, passwords, hosts, ports, names, st.dictionaries(names, names, max_size=3))
def test_what_was_encoded_comes_out(
    role: str, password: bytes, host: str, port: int | None, database: str, parameters: dict[str, str]
) -> None:
    place = host if port is None else f"{host}:{port}"
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters.items())
    user = f"{quote(role, safe='')}:{quote_from_bytes(password, safe='')}"
    text = f"postgres://{user}@{place}/{quote(database, safe='')}?{query}"
    meant = Dsn(host, port, database, role, password, tuple(parameters.items()))
    assert dsn_from_header(text.encode()) == meant
    assert dsn_from_url(text) == meant


visible = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["postgres://", "postgresql://", "postgres://u:p@h/d", "postgres://u:p@", "POSTGRES://", "x"]),
    visible,
)
@example("postgres://u:p@", "h:0001/d")
@example("postgres://u:p@h/d", "?sslmode=a&sslmode=b")
def test_any_text_is_read_alike_the_short_way_and_the_long_way(begin: str, end: str) -> None:
    def read(text: str) -> Dsn | str:
        try:
            return dsn_from_header(text.encode())
        except InvalidConnectionString as error:
            return error.message

    found = read(begin + end)
    assert found == read(begin + end + "#")
    if isinstance(found, Dsn):
        assert found.role
        assert found.host
        assert found.database
        assert "\0" not in found.role + found.database + found.host
        assert dsn_from_url(begin + end) == found


def refusal(text: bytes | str) -> str:
    """The error's message, empty where there is none."""
    try:
        if isinstance(text, str):
            dsn_from_url(text)
        else:
            dsn_from_header(text)
    except InvalidConnectionString as error:
        return error.message
    return ""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.text(max_size=40))
def test_noise_is_an_error_that_quotes_nothing(noise: bytes, text: str) -> None:
    for each in (noise, b"postgres://" + noise, text, "postgres://" + text):
        assert refusal(each).isascii()
