"""What the settings let callers do: dangers are named, with whom they concern."""

from dataclasses import replace
from typing import Any

import pytest

from sqlhttp_gateway.check.facts import Facts
from sqlhttp_gateway.check.finding import Level
from sqlhttp_gateway.check.judge_auth import judge_auth, judge_logins
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


def test_keys_of_an_issuer_over_http_are_a_warning() -> None:
    issuer = {"jwks_url": "http://issuer.example/jwks", "roles": ["app"]}
    settings = load_settings(issuers={"mine": issuer}, auth={"jwks_insecure": True})
    [finding] = [each for each in judge_auth(settings) if each.subject == "issuers"]
    assert finding.level is Level.WARNING
    assert "mine" in finding.text


def test_a_superuser_behind_keys_and_tokens_is_an_error_at_its_own_target_only() -> None:
    key = {"hash": "sha256:" + 64 * "0", "database": "app", "role": "root"}
    settings = load_settings(
        targets={"other": {"url": "postgres://x:y@h/d"}},
        keys={"k1": key, "k2": key | {"role": "app"}},
        logins={"l": {"role": "root", "password": "x"}},
    )
    facts = Facts("default", "db", 5432, "gateway", superusers=frozenset({"root"}))
    [finding] = judge_logins(settings, facts)
    assert finding.level is Level.ERROR
    assert "keys.k1: root is a superuser" in finding.text
    assert list(judge_logins(settings, replace(facts, target="other"))) == []
    assert list(judge_logins(settings, replace(facts, superusers=frozenset()))) == []


def test_tokens_whose_claims_no_policy_can_read_are_a_warning() -> None:
    settings = load_settings(issuers={"mine": {"secret": 32 * "x", "roles": ["app"]}})
    facts = Facts("default", "db", 5432, "gateway", has_claims=False)
    [missing] = judge_logins(settings, facts)
    assert (missing.level, "--install-auth" in missing.remedy) == (Level.WARNING, True)
    [there] = judge_logins(settings, replace(facts, has_claims=True))
    assert there.level is Level.OK
    assert list(judge_logins(load_settings(), facts)) == []
