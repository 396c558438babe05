"""What the settings let callers do: dangers are named, with whom they concern."""

from typing import Any

import pytest

from sqlhttp_gateway.check.judge_auth import judge_auth
from sqlhttp_gateway.settings import Settings, load_settings

KEY = {"hash": "sha256:" + 64 * "0", "database": "main", "role": "web"}
ISSUER = {"secret": 32 * "s", "roles": ["web"]}


def settings(**sections: Any) -> Settings:
    return load_settings(database_url="postgres://a:b@db/main", **sections)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"issuers": {"mine": ISSUER}},
        {"auth": {"claims": "plain"}},  # there is nobody who has claims
        {"auth": {"set_role": "any"}, "keys": {"0123456789ab": KEY}},
        {"keys": {"0123456789ab": KEY | {"login": "authenticator", "statements": [64 * "0"]}}},
    ],
)
def test_nothing_is_said_where_nobody_can_do_more_than_they_should(sections: dict[str, Any]) -> None:
    assert list(judge_auth(settings(**sections))) == []


def test_claims_that_anybody_can_forge_are_named() -> None:
    [finding] = judge_auth(settings(auth={"claims": "plain"}, issuers={"mine": ISSUER}))
    assert "request.jwt.claims" in finding.text
    assert "sqlhttp auth install" in finding.remedy


def test_role_that_anybody_can_leave_is_named_with_whose_it_is() -> None:
    [finding] = judge_auth(
        settings(
            auth={"set_role": "any", "keys_table": True},
            keys={"0123456789ab": KEY | {"login": "authenticator"}},
            issuers={"mine": ISSUER | {"login": "authenticator"}},
        )
    )
    assert "keys.0123456789ab, issuers.mine, sqlhttp.api_keys" in finding.text
    assert "RESET ROLE" in finding.text
