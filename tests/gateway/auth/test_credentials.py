"""What a request shows of itself is sorted by its form, and never shown again."""

import base64

import pytest

from sqlhttp_gateway.auth.credentials import (
    MAX_LENGTH,
    ApiKey,
    Token,
    credentials_from_header,
    credentials_from_password,
)
from sqlhttp_gateway.errors import CredentialsMissing

KEY = "sk_0123456789ab_" + "a" * 40


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize("header", [f"Bearer {KEY}".encode(), basic(f"{KEY}:"), basic(f":{KEY}"), basic(f"any:{KEY}")])
def test_key_comes_as_a_bearer_or_as_curl_sends_a_user_or_password(header: bytes) -> None:
    assert credentials_from_header(header) == ApiKey("0123456789ab", KEY)


def test_every_other_bearer_is_meant_to_be_a_token() -> None:
    assert credentials_from_header(b"Bearer x.y.z") == Token("x.y.z")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"bearer x.y.z",
        b"BEARER x.y.z",
        b"Token x.y.z",
        b"Basic !!!!",
        b"Basic \xff",
        b"Bearer \xff",
        basic("postgres:secret"),
        b"Bearer " + b"x" * MAX_LENGTH,
    ],
)
def test_any_other_header_is_told_what_is_required(header: bytes) -> None:
    if header == b"Bearer":
        assert credentials_from_header(header) == Token("")  # refused as no JWT
        return
    with pytest.raises(CredentialsMissing, match="required authorization bearer token in JWT format") as refused:
        credentials_from_header(header)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["secret", "sk_short", KEY[:-1], KEY + "a", KEY.upper(), "eyJ.only-two", "é", "a.b.c"])
def test_password_that_looks_like_neither_stays_a_password(text: str) -> None:
    assert credentials_from_password(text.encode("latin-1")) is None


def test_key_or_token_may_stand_in_a_passwords_place() -> None:
    assert credentials_from_password(KEY.encode()) == ApiKey("0123456789ab", KEY)
    assert credentials_from_password(b"eyJhbGciOiJub25lIn0.e30.") == Token("eyJhbGciOiJub25lIn0.e30.")


def test_neither_shows_its_secret() -> None:
    assert "aaaa" not in repr(ApiKey("0123456789ab", KEY))
    assert "x.y" not in repr(Token("x.y.z"))
