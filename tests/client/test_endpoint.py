"""Where requests go, and which connection string they carry."""

import pytest

from sqlhttp import InterfaceError
from sqlhttp._endpoint import destination


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        # Neon's driver: the host's first label replaced, the port left out
        ("postgresql://u:p@ep-a-b.eu.aws.neon.tech/db?sslmode=require", "https://api.eu.aws.neon.tech/sql"),
        ("postgres://u:p@ep-x.c-2.neon.tech:5432/db", "https://api.c-2.neon.tech/sql"),
        # hosts that cannot be Neon's
        ("postgres://u:p@localhost/db", "http://localhost:4444/sql"),
        ("postgres://u:p@localhost:8080/db", "http://localhost:8080/sql"),
        ("postgres://u:p@gateway/db", "http://gateway:4444/sql"),
        ("postgres://u:p@127.0.0.1:4499/db", "http://127.0.0.1:4499/sql"),
        ("postgres://u:p@[::1]:4499/db", "http://[::1]:4499/sql"),
        ("postgres://u:p@db.localhost/db", "http://db.localhost:4444/sql"),
        # a gateway by its own URL
        ("https://gateway.example", "https://gateway.example/sql"),
        ("https://gateway.example/", "https://gateway.example/sql"),
        ("https://gateway.example/eu/sql", "https://gateway.example/eu/sql"),
        ("http://u:p@gateway.example:8080/db", "http://gateway.example:8080/sql"),
        ("HTTPS://gateway.example:443/sql", "https://gateway.example/sql"),
    ],
)
def test_the_endpoint_follows_from_the_url(url: str, endpoint: str) -> None:
    assert destination(url, None, {}).endpoint.url == endpoint


def test_a_token_goes_to_neons_other_host() -> None:
    neon = destination("postgres://u@ep-x.eu.neon.tech/db", None, {})
    assert neon.endpoint_with_token.url == "https://apiauth.eu.neon.tech/sql"
    gateway = destination("postgres://u@localhost/db", None, {})
    assert gateway.endpoint_with_token == gateway.endpoint
    told = destination("postgres://u@ep-x.eu.neon.tech/db", "https://gateway.example", {})
    assert told.endpoint_with_token == told.endpoint


def test_the_connection_string_is_sent_as_it_was_given() -> None:
    url = "postgres://http%2Bauth%24%24:%25%2B@h.example/db?options=x"
    assert destination(url, None, {}).connection_string == url


def test_blanks_and_line_ends_around_a_url_are_none_of_it() -> None:
    url = "postgres://u:p@localhost/db"
    for found in (
        destination(f" {url}\n", "http://gateway/sql\r\n", {}),
        destination(None, None, {"DATABASE_URL": f"{url}\n", "SQLHTTP_ENDPOINT": "\thttp://gateway/sql\n"}),
        destination("http://gateway/sql\n", None, {"DATABASE_URL": f"{url}\n", "SQLHTTP_ENDPOINT": "\n"}),
    ):
        assert (found.endpoint.url, found.connection_string) == ("http://gateway/sql", url)
    with pytest.raises(InterfaceError, match="set DATABASE_URL"):
        destination(None, None, {"DATABASE_URL": "\n"})


def test_credentials_in_a_gateways_url_become_a_connection_string() -> None:
    found = destination("https://role:pass%2Fword@gateway.example:8443/main?application_name=x", None, {})
    assert found.connection_string == "postgresql://role:pass%2Fword@gateway.example/main?application_name=x"
    assert found.endpoint.origin == (True, "gateway.example", 8443)


def test_a_gateways_url_without_credentials_takes_the_string_from_the_environment() -> None:
    environment = {"DATABASE_URL": "postgres://u:p@db/main"}
    found = destination("http://localhost:4444", None, environment)
    assert (found.endpoint.url, found.connection_string) == ("http://localhost:4444/sql", "postgres://u:p@db/main")
    assert destination("http://localhost:4444", None, {}).connection_string is None


def test_the_environment_stands_in_for_arguments_and_not_before_them() -> None:
    environment = {"DATABASE_URL": "postgres://u:p@env/db", "SQLHTTP_ENDPOINT": "http://env:1/sql"}
    assert destination(None, None, environment).connection_string == "postgres://u:p@env/db"
    assert destination(None, None, environment).endpoint.url == "http://env:1/sql"
    assert destination(None, "https://given", environment).endpoint.url == "https://given/sql"
    assert destination("postgres://u:p@given/db", None, environment).connection_string == "postgres://u:p@given/db"


def test_an_ipv6_address_is_connected_to_without_brackets() -> None:
    endpoint = destination("postgres://u:p@[fe80::1]:99/db", None, {}).endpoint
    assert endpoint.origin == (False, "fe80::1", 99)
    assert endpoint.authority == "[fe80::1]:99"


@pytest.mark.parametrize(
    ("url", "endpoint", "words"),
    [
        (None, None, "DATABASE_URL"),
        ("", None, "not a URL"),
        ("localhost/db", None, "not a URL"),
        ("mysql://u:secret@h/db", None, "mysql://"),
        ("postgres://h/db", None, "no role"),
        ("postgres://u:secret@/db", None, "no host"),
        ("postgres://u:secret@h/d b", None, "not a URL"),
        ("postgres://u:secret@h/dä", None, "percent-encoded"),
        ("https://u:s€cret@h/db", None, "percent-encoded"),
        ("postgres://u:secret@h/db", "ftp://h", "http://"),
        ("postgres://u:secret@h/db", "https://a:b@h", "credentials"),
        ("postgres://u:secret@h/db", "https://h:99999", "65535"),
        ("postgres://u:secret@h/db", "https://h/ä", "percent-encoded"),
    ],
)
def test_what_cannot_be_used_is_refused_without_its_password(url: str | None, endpoint: str | None, words: str) -> None:
    with pytest.raises(InterfaceError, match=words) as caught:
        destination(url, endpoint, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "endpoint", "websocket"),
    [
        ("postgresql://r:p@ep-x.eu.aws.neon.tech:5432/db", None, "wss://ep-x.eu.aws.neon.tech/v2"),
        ("postgresql://r:p@localhost/db", None, "ws://localhost:4444/v2?address=localhost"),
        ("postgresql://r:p@[::1]:5000/db", None, "ws://[::1]:5000/v2?address=[::1]:5000"),
        ("https://r:p@gateway.example/db", None, "wss://gateway.example/v2?address=gateway.example"),
        ("postgresql://r:p@db:5432/db", "https://g.example/a/sql?k=1", "wss://g.example/a/v2?k=1&address=db:5432"),
        ("postgresql://r:p@db/db", "http://g.example:81/elsewhere", "ws://g.example:81/elsewhere/v2?address=db"),
    ],
)
def test_websockets_go_beside_the_statements(url: str, endpoint: str | None, websocket: str) -> None:
    assert destination(url, endpoint, {}).websocket.websocket_url == websocket
