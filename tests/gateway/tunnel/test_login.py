"""A program's way in, with a stream and an authenticator of the test's own and the real handshake."""

from collections.abc import Callable
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import GatewayError, PasswordFailed
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.tunnel.login import Address, LoggedIn, Login
from sqlhttp_gateway.tunnel.stream import StreamClosed
from sqlhttp_gateway.wire.backend import decode_error
from tests.support.streams import FakeStream

ASK = b"R\0\0\0\x08\0\0\0\x03"
OK = b"R\0\0\0\x08\0\0\0\0"
STARTUP = b"\0\0\0\x1f\0\3\0\0user\0ada\0database\0app\0\0"
PASSWORD = b"p\0\0\0\x0asesam\0"
SSL_REQUEST = pack("!II", 8, 80877103)


class Authenticator:
    """Knows one password. What it was asked is kept."""

    def __init__(self, grant: Grant | None = None) -> None:
        self.asked: list[tuple[Dsn, str, str | None]] = []
        self.sent: Callable[[], bytes] = lambda: b""
        self.sent_when_asked = b""
        self._grant = grant

    async def authenticate_password(self, dsn: Dsn, *, peer: str, origin: str | None = None) -> Any:
        self.asked.append((dsn, peer, origin))
        self.sent_when_asked = self.sent()
        if dsn.password != b"sesam":
            raise PasswordFailed("wrong")
        return SimpleNamespace(role=dsn.role, grant=self._grant)


def login(stream: FakeStream, authenticator: Authenticator, cancel: Any = None) -> Login:
    authenticator.sent = lambda: stream.all_sent
    return Login(stream, authenticator, cancel or (lambda process_id, secret: None))  # type: ignore[arg-type]


async def run(
    stream: FakeStream, authenticator: Authenticator | None = None, *, timeout: float = 5.0
) -> tuple[LoggedIn | None, GatewayError | None]:
    way = login(stream, authenticator or Authenticator())
    return await way.run(timeout, address=Address("db.example", 5432)), way.error


def told(stream: FakeStream) -> dict[str, str]:
    """The error that the program was sent last."""
    data = stream.sent[-1]
    assert data[:1] == b"E", data
    return decode_error(data[5:])


@pytest.mark.parametrize(
    "pieces",
    [[STARTUP + PASSWORD + b"Q..."], [STARTUP, PASSWORD, b""], [bytes((byte,)) for byte in STARTUP + PASSWORD]],
    ids=["at once", "one by one", "byte by byte"],
)
async def test_right_password_lets_the_program_in(pieces: list[bytes]) -> None:
    stream, authenticator = FakeStream(), Authenticator()
    stream.put(*pieces)
    logged_in, error = await run(stream, authenticator)
    assert error is None
    assert logged_in is not None
    assert authenticator.asked == [(Dsn("db.example", 5432, "app", "ada", b"sesam"), "192.0.2.1", None)]
    assert (logged_in.startup.role, logged_in.startup.database) == ("ada", "app")
    assert (logged_in.password, logged_in.greeting) == (b"sesam", OK)
    assert logged_in.rest == (b"Q..." if len(pieces) == 1 else b"")
    assert stream.sent == [ASK]


async def test_question_is_sent_before_the_password_is_looked_up_even_if_that_came_first() -> None:
    """Drivers and Neon's own tests count on a message of its own for it."""
    stream, authenticator = FakeStream(), Authenticator()
    stream.put(STARTUP + PASSWORD)
    await run(stream, authenticator)
    assert authenticator.sent_when_asked == ASK


async def test_wrong_password_is_refused() -> None:
    stream = FakeStream()
    stream.put(STARTUP + PASSWORD.replace(b"sesam", b"salam"))
    logged_in, error = await run(stream)
    assert logged_in is None
    assert isinstance(error, PasswordFailed)
    assert (told(stream)["C"], told(stream)["S"]) == ("28P01", "FATAL")


async def test_password_is_not_asked_for_where_others_could_read_it() -> None:
    stream, authenticator = FakeStream(is_secure=False), Authenticator()
    stream.put(STARTUP + PASSWORD)
    logged_in, _ = await run(stream, authenticator)
    assert logged_in is None
    assert stream.all_sent[:1] == b"E"
    assert "sslmode=require" in told(stream)["H"]
    assert authenticator.asked == []


async def test_password_is_asked_for_once_tls_has_begun() -> None:
    stream = FakeStream(is_secure=False, offers_tls=True)
    stream.put(SSL_REQUEST, STARTUP, PASSWORD)
    logged_in, _ = await run(stream)
    assert logged_in is not None
    assert stream.sent == [b"S", ASK]


async def test_tls_is_declined_where_there_is_none() -> None:
    stream = FakeStream()
    stream.put(SSL_REQUEST, STARTUP, PASSWORD)
    logged_in, _ = await run(stream)
    assert logged_in is not None
    assert stream.all_sent == b"N" + ASK


async def test_start_up_that_takes_too_long_is_refused() -> None:
    stream = FakeStream()
    stream.put(STARTUP[:-1])
    logged_in, error = await run(stream, timeout=0.01)
    assert logged_in is None
    assert error is not None
    assert told(stream)["M"] == "start-up was not complete within 0.01 s"


async def test_what_is_no_bytes_is_refused() -> None:
    stream = FakeStream()
    stream.misuse()
    _, error = await run(stream)
    assert error is not None
    assert told(stream)["C"] == "08P01"


async def test_program_that_goes_is_no_error() -> None:
    stream = FakeStream()
    stream.put(STARTUP)
    stream.hang_up()
    with pytest.raises(StreamClosed):
        await run(stream)


async def test_goodbye_instead_of_a_password_is_no_error() -> None:
    stream = FakeStream()
    stream.put(STARTUP + b"X\0\0\0\x04")
    assert await run(stream) == (None, None)
    assert stream.all_sent in (b"", ASK)


async def test_cancel_request_shows_its_key_and_gets_no_word() -> None:
    shown: list[tuple[int, bytes]] = []
    stream = FakeStream()
    stream.put(pack("!IIi", 16, 80877102, 7) + b"key!")
    way = login(stream, Authenticator(), lambda process_id, secret: shown.append((process_id, secret)))
    assert await way.run(5.0, address=Address("")) is None
    assert (shown, stream.sent, way.error) == ([(7, b"key!")], [], None)


async def test_with_an_api_key_connections_are_opened_with_the_password_that_the_gateway_holds() -> None:
    stream = FakeStream()
    stream.put(STARTUP + PASSWORD)
    logged_in, _ = await run(stream, Authenticator(Grant("key:1", b"held")))
    assert logged_in is not None
    assert logged_in.password == b"held"


async def test_what_was_shown_can_be_looked_at_again() -> None:
    stream, authenticator = FakeStream(), Authenticator(Grant("key:1", b"held"))
    stream.put(STARTUP + PASSWORD)
    logged_in, _ = await run(stream, authenticator)
    assert logged_in is not None
    await logged_in.renew()
    assert authenticator.asked[0] == authenticator.asked[1]
