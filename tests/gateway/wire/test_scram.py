"""SCRAM-SHA-256: RFC 7677's own numbers, verifiers that a Postgres 18 made, and everything that must be refused."""

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256

import pytest

from sqlhttp_gateway.errors import BadRequest, PasswordFailed, RemoteProtocolError
from sqlhttp_gateway.wire.scram import (
    MECHANISM_PLUS,
    Client,
    Keys,
    Md5Verifier,
    Server,
    Verifier,
    derive_keys,
    make_verifier,
    mock_verifier,
    normalized_password,
    parse_verifier,
    verify_password,
)

# RFC 7677, section 3
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
RFC_VERIFIER = make_verifier(b"pencil", salt=b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))

# rolpassword as Postgres 18 wrote it for CREATE ROLE ... PASSWORD
FROM_POSTGRES = {
    "pencil": "SCRAM-SHA-256$4096:WPrqTz3kqvJabvkk6JR2mw=="
    "$ct+LjxHIYtCKoZ+yUfMrQWSD32ToQ+SZs0NXDZB4s9Y=:oM74gI+gkl/OCz8QnDvjuW733OVtuzJNtuwp7IkPz+U=",
    "I\u00adX \u2168 caf\u00e9": "SCRAM-SHA-256$4096:aKwJjxghRQHlHzwUNOQUBg=="
    "$04e01sok51DJmOF3D75k26YizRj22bmJvj6E5Oq44nA=:H4kkTneGI5iKEoxTlNQBOjbW8G4JsGpZjlECMulcRYo=",
    "\u0627\u0031": "SCRAM-SHA-256$4096:kMqZpwF6iyTTn99UrLZOkA=="
    "$OIS8cPaKMjrCQQ4Wr7q1Wv7BySnUQ18PUm45xnwDJG0=:nN2g/TemdFmkxk7z6mEu1dBrK/L/Sj4irA5K9W9cmOA=",
    "x\u0378y": "SCRAM-SHA-256$4096:5gJVtMAhZrVHwPD4CGjBTQ=="
    "$qpbQTSk/tptMO8zNT/5BmwPPSnRsRAn5e76QVzLNAlc=:5UfDaIDcTxsz8wv7YPmTOoTxHbxcPRmL+G6v5X3VVB4=",
}
MD5_OF_PENCIL_FOR_ROLE_D = "md5f6100b06df553dbff70d9a6a8a6d9295"


# ── verifiers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("password", FROM_POSTGRES)
def test_password_fits_the_verifier_that_postgres_made_of_it(password: str) -> None:
    verifier = parse_verifier(FROM_POSTGRES[password])
    assert isinstance(verifier, Verifier)
    assert verify_password(verifier, password.encode(), "anyone")
    assert not verify_password(verifier, password.encode() + b"x", "anyone")


def test_password_that_differs_only_in_what_saslprep_drops_fits_too() -> None:
    verifier = parse_verifier(FROM_POSTGRES["I\u00adX \u2168 caf\u00e9"])
    assert verifier is not None
    assert verify_password(verifier, "IX\u00a0IX cafe\u0301".encode(), "anyone")


def test_md5_verifier_is_of_password_and_role_together() -> None:
    verifier = parse_verifier(MD5_OF_PENCIL_FOR_ROLE_D)
    assert verifier == Md5Verifier("f6100b06df553dbff70d9a6a8a6d9295")
    assert verify_password(verifier, b"pencil", "d")
    assert not verify_password(verifier, b"pencil", "e")
    assert not verify_password(verifier, b"pencils", "d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pencil",
        "md5f6100b06df553dbff70d9a6a8a6d929",
        "md5F6100B06DF553DBFF70D9A6A8A6D9295",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",
        "SCRAM-SHA-512$" + FROM_POSTGRES["pencil"].partition("$")[2],
        FROM_POSTGRES["pencil"].replace("4096", "0"),
        FROM_POSTGRES["pencil"].replace("4096", "-1"),
        FROM_POSTGRES["pencil"].replace("4096", "٤"),
        FROM_POSTGRES["pencil"].replace("$ct+", "$*t+"),
        FROM_POSTGRES["pencil"].replace("WPrqTz3kqvJabvkk6JR2mw==", ""),
    ],
)
def test_text_that_postgres_would_not_take_for_a_verifier_is_none(text: str) -> None:
    assert parse_verifier(text) is None


def test_repr_of_a_verifier_shows_nothing_to_break_in_with() -> None:
    verifier = parse_verifier(FROM_POSTGRES["pencil"])
    assert repr(verifier) == f"Verifier(iterations=4096, salt={b64decode('WPrqTz3kqvJabvkk6JR2mw==')!r})"
    assert repr(Md5Verifier("f6100b06df553dbff70d9a6a8a6d9295")) == "Md5Verifier()"
    assert repr(derive_keys(b"pencil", salt=b"salt", iterations=1)) == "Keys()"


def test_mock_verifier_looks_real_stays_the_same_and_fits_no_password() -> None:
    mock = mock_verifier("nobody", b"secret")
    assert mock == mock_verifier("nobody", b"secret")
    assert mock.salt != mock_verifier("somebody", b"secret").salt
    assert mock.salt != mock_verifier("nobody", b"another secret").salt
    assert (len(mock.salt), mock.iterations, len(mock.stored_key), len(mock.server_key)) == (16, 4096, 32, 32)
    assert not verify_password(mock, b"", "nobody")
    assert not verify_password(mock, b"secret", "nobody")


@pytest.mark.parametrize(
    ("password", "normalized"),
    [
        (b"pencil", b"pencil"),
        (b"with\x01control", b"with\x01control"),  # ASCII is passed through unseen
        ("I\u00adX".encode(), b"IX"),  # mapped to nothing
        ("a\u00a0b\u200bc".encode(), b"a b c"),  # mapped to space
        ("\u00aa".encode(), b"a"),
        ("\u2168".encode(), b"IX"),
        ("\u0627\u0031".encode(), "\u0627\u0031".encode()),  # right-to-left that does not end so: refused, kept
        ("\u0627a\u0627".encode(), "\u0627a\u0627".encode()),
        ("\u0627\u00aa\u0628".encode(), "\u0627\u00aa\u0628".encode()),
        ("\ufefb".encode(), "\u0644\u0627".encode()),  # a ligature, taken apart
        ("\u00ad".encode(), "\u00ad".encode()),  # nothing would be left
        ("x\u0378y".encode(), "x\u0378y".encode()),  # unassigned
        ("\u00e9\u0007".encode(), "\u00e9\u0007".encode()),  # control character beside non-ASCII
        (b"caf\xe9", b"caf\xe9"),  # not UTF-8
    ],
)
def test_password_is_prepared_as_postgres_does(password: bytes, normalized: bytes) -> None:
    assert normalized_password(password) == normalized


# ── the exchange ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_client_says_what_rfc_7677_says() -> None:
    client = Client(b"pencil", CLIENT_NONCE, user="user")
    assert client.first() == CLIENT_FIRST
    assert client.receive(SERVER_FIRST) == CLIENT_FINAL
    assert not client.done
    assert client.receive(SERVER_FINAL) is None
    assert client.done


def test_server_says_what_rfc_7677_says() -> None:
    server = Server(RFC_VERIFIER, SERVER_NONCE, role="user")
    assert server.receive(CLIENT_FIRST) == SERVER_FIRST
    assert server.keys is None
    assert server.receive(CLIENT_FINAL) == SERVER_FINAL
    assert server.keys is not None


def test_keys_learned_by_the_server_log_in_elsewhere_with_the_same_verifier() -> None:
    door = Server(RFC_VERIFIER, SERVER_NONCE, role="user")
    door.receive(CLIENT_FIRST)
    door.receive(CLIENT_FINAL)
    assert door.keys == derive_keys(b"pencil", salt=RFC_VERIFIER.salt, iterations=4096)

    gateway, postgres = Client(door.keys, "other nonce"), Server(RFC_VERIFIER, "server nonce", role="user")
    final = gateway.receive(postgres.receive(gateway.first()))
    assert final is not None
    gateway.receive(postgres.receive(final))
    assert gateway.done


@pytest.mark.parametrize("verifier", [make_verifier(b"pencils", salt=b"s" * 16), mock_verifier("user", b"secret")])
def test_server_refuses_a_proof_of_another_password(verifier: Verifier) -> None:
    client, server = Client(b"pencil", "c"), Server(verifier, "s", role="user")
    final = client.receive(server.receive(client.first()))
    assert final is not None
    with pytest.raises(PasswordFailed, match='password authentication failed for user "user"'):
        server.receive(final)
    assert server.keys is None


@pytest.mark.parametrize(
    "client_first",
    [
        b"",
        b"n,,",
        b"n",
        b"n,,n=user",
        b"n,,r=nonce",
        b"n,,n=,r=",
        b"n,a=admin,n=,r=nonce",
        b"n,,m=unknown,n=,r=nonce",
        b"p=tls-server-end-point,,n=,r=nonce",
        b"x,,n=,r=nonce",
        b"n,,n=\xff,r=nonce",
    ],
)
def test_server_refuses_a_malformed_first_message(client_first: bytes) -> None:
    with pytest.raises(BadRequest):
        Server(RFC_VERIFIER, SERVER_NONCE, role="user").receive(client_first)


@pytest.mark.parametrize(
    "client_final",
    [
        b"",
        CLIENT_FINAL.replace(b"biws", b"eSws"),
        CLIENT_FINAL.replace(b"c=biws,", b""),
        CLIENT_FINAL.replace(b"hvYD", b"hvYE"),
        CLIENT_FINAL.partition(b",p=")[0],
        CLIENT_FINAL[:-4],
        CLIENT_FINAL.replace(b",p=d", b",p=*"),
    ],
)
def test_server_refuses_a_malformed_last_message(client_final: bytes) -> None:
    server = Server(RFC_VERIFIER, SERVER_NONCE, role="user")
    server.receive(CLIENT_FIRST)
    with pytest.raises(BadRequest):
        server.receive(client_final)
    assert server.keys is None


def bound_final(server: Server, *, header: bytes, data: bytes, first: bytes, mechanism: str) -> bytes:
    """What a program with channel binding sends last, computed with the RFC's client underneath."""
    server_first = server.receive(header + first, mechanism=mechanism).decode()
    nonce = server_first.split(",")[0][2:]
    keys = derive_keys(b"pencil", salt=RFC_VERIFIER.salt, iterations=4096)
    final = f"c={b64encode(header + data).decode()},r={nonce}"
    message = f"{first.decode()},{server_first},{final}".encode()

    signature = hmac.digest(sha256(keys.client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
    return f"{final},p={b64encode(proof).decode()}".encode()


def test_channel_binding_to_our_certificate_is_accepted_and_to_another_refused() -> None:
    for data, accepted in ((b"our certificate", True), (b"of a man in the middle", False)):
        server = Server(RFC_VERIFIER, "s", role="user", channel_binding=b"our certificate")
        final = bound_final(
            server, header=b"p=tls-server-end-point,,", data=data, first=b"n=,r=c", mechanism=MECHANISM_PLUS
        )
        if accepted:
            assert server.receive(final).startswith(b"v=")
        else:
            with pytest.raises(BadRequest, match="channel binding check failed"):
                server.receive(final)


def test_program_that_was_told_we_cannot_bind_although_we_can_is_refused() -> None:
    server = Server(RFC_VERIFIER, "s", role="user", channel_binding=b"our certificate")
    with pytest.raises(BadRequest, match="negotiation"):
        server.receive(b"y,,n=,r=c")


def test_program_that_could_bind_where_we_do_not_offer_it_is_let_in() -> None:
    server = Server(RFC_VERIFIER, "s", role="user")
    final = bound_final(server, header=b"y,,", data=b"", first=b"n=,r=c", mechanism="SCRAM-SHA-256")
    assert server.receive(final).startswith(b"v=")


@pytest.mark.parametrize(
    ("mechanism", "first"), [(MECHANISM_PLUS, b"n,,n=,r=c"), (MECHANISM_PLUS, b"p=tls-unique,,n=,r=c")]
)
def test_binding_other_than_the_one_offered_is_refused(mechanism: str, first: bytes) -> None:
    server = Server(RFC_VERIFIER, "s", role="user", channel_binding=b"our certificate")
    with pytest.raises(BadRequest):
        server.receive(first, mechanism=mechanism)


@pytest.mark.parametrize(
    "server_first",
    [
        b"",
        b"r=other,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096",  # our nonce, nothing of the server's
        b"r=rOprNGfwEbeRWgbNEkqOx,s=*,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=many",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==",
        b"\xff",
    ],
)
def test_client_refuses_a_malformed_challenge(server_first: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Client(b"pencil", CLIENT_NONCE).receive(server_first)


@pytest.mark.parametrize("server_final", [b"", b"e=other-error", b"v=*", b"v=" + b64encode(b"x" * 32)])
def test_client_refuses_a_server_that_does_not_know_the_password(server_final: bytes) -> None:
    client = Client(b"pencil", CLIENT_NONCE, user="user")
    client.receive(SERVER_FIRST)
    with pytest.raises(RemoteProtocolError, match="did not prove"):
        client.receive(server_final)
    assert not client.done


def test_user_name_is_escaped() -> None:
    assert Client(Keys(b"", b""), "n", user="a=b,c").first() == b"n,,n=a=3Db=2Cc,r=n"
