"""Keys, issuers and logins: what each has to have, and what is refused without showing it."""

import pytest

from sqlhttp_gateway.settings import load_settings
from tests.support.refused import refused

SECRET = "0123456789abcdef" * 2
KEY = {"hash": "sha256:" + 64 * "0", "database": "app", "role": "app"}


def issuer(**given: object) -> str:
    return refused(issuers={"mine": {"roles": ["app"], **given}})


def test_an_issuers_keys_come_from_one_place() -> None:
    assert "one of jwks_url, jwks_file and secret is needed" in issuer()
    assert "one of jwks_url, jwks_file and secret is needed" in issuer(secret=SECRET, jwks_file="keys.json")
    assert load_settings(issuers={"mine": {"roles": ["app"], "secret": SECRET}}).issuers["mine"].read_only is False


def test_a_secret_that_can_be_guessed_is_refused_and_not_shown() -> None:
    text = issuer(secret="hunter2")
    assert "secret must have 32 bytes or more" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "url", ["ftp://host/keys", "https:///keys", "https://user:hunter2@host/keys", "https://host/keys#one"]
)
def test_an_address_of_keys_is_https_with_a_host_and_nothing_hidden(url: str) -> None:
    text = issuer(jwks_url=url)
    assert "jwks_url must be https://" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("statements", [["select 1"], [64 * "0", 63 * "0"], [64 * "A"]])
def test_statements_are_named_by_their_digests(statements: list[str]) -> None:
    assert "SHA-256 digests of 64 hex digits" in issuer(secret=SECRET, statements=statements)
    assert "SHA-256 digests of 64 hex digits" in refused(keys={"one": {**KEY, "statements": statements}})


def test_a_key_is_known_by_its_hash_and_never_by_itself() -> None:
    text = refused(keys={"one": {**KEY, "hash": "hunter2"}})
    assert "hash must be sha256: and 64 hex digits" in text
    assert "hunter2" not in text


def test_an_end_without_an_offset_is_refused_since_nobody_knows_when_it_is() -> None:
    assert "expires_at" in refused(keys={"one": {**KEY, "expires_at": "2030-01-31T00:00:00"}})
