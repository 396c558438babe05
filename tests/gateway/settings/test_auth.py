"""How callers prove who they are."""

import pytest

from sqlhttp_gateway.settings import AuthSettings
from tests.support.refused import refused


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("verify_by", "'auto', 'verifier' or 'login'"),
        ("claims", "'auto', 'signed', 'plain' or 'off'"),
        ("set_role", "'listed' or 'any'"),
    ],
)
def test_a_way_that_does_not_exist_is_refused_with_those_that_do(name: str, ways: str) -> None:
    assert refused(auth={name: "no"}) == f"auth.{name}: Input should be {ways}"


def test_what_weakens_a_proof_has_to_be_asked_for() -> None:
    auth = AuthSettings()
    assert (auth.jwks_insecure, auth.set_role, auth.claims) == (False, "listed", "auto")
