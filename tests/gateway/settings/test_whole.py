"""All sections together: frozen, silent about secrets, and at one with each other."""

import pytest
from pydantic import ValidationError

from sqlhttp_gateway.settings import PoolSettings, load_settings, shown
from tests.support.refused import refused

SECRET = "0123456789abcdef" * 2


def test_settings_cannot_be_changed_once_read() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.pool = PoolSettings()
    with pytest.raises(ValidationError):
        settings.pool.max_size = 11


def test_the_repr_of_settings_hides_passwords() -> None:
    settings = load_settings(
        database_url="postgres://app:hunter2@db/app", targets={"reports": {"url": "postgres://app:hunter2@reports/app"}}
    )
    assert "hunter2" not in repr(settings)


def test_what_an_operator_is_shown_has_every_name_and_no_secret() -> None:
    lines = shown(load_settings(database_url="postgres://app:hunter2@db/app", pool={"max_size": 7}))
    assert ("pool.max_size", "7", "10") in lines
    assert "hunter2" not in repr(lines)


def test_more_workers_than_connections_are_refused_with_both_numbers() -> None:
    text = refused(listen={"workers": 4}, pool={"max_size": 2})
    assert "pool.max_size (2)" in text
    assert "listen.workers (4)" in text


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("logins", {"role": "app", "password": "hunter2"}),
        ("keys", {"hash": "sha256:" + 64 * "0", "database": "app", "role": "app"}),
        ("issuers", {"secret": SECRET, "roles": ["app"]}),
        ("tenants", {"hosts": ["acme.example"]}),
    ],
)
def test_a_target_that_nobody_has_named_is_refused_by_its_place(section: str, given: dict[str, object]) -> None:
    text = refused(**{section: {"one": {**given, "target": "nowhere"}}})
    assert f"{section}.one.target: there is no target 'nowhere'" in text
    load_settings(**{section: {"one": {**given, "target": "there"}}}, targets={"there": {"url": "postgres://a@b/c"}})


def test_a_tenants_target_that_is_made_of_its_name_is_looked_for_later() -> None:
    assert (
        load_settings(tenants={"any": {"hosts": ["*.example"], "target": "{name}"}}).tenants["any"].target == "{name}"
    )


def test_a_login_that_is_not_the_role_needs_listed_statements_or_consent() -> None:
    key = {"hash": "sha256:" + 64 * "0", "database": "app", "role": "app", "login": "authenticator"}
    assert "keys.one.login needs statements beside it" in refused(keys={"one": key})
    load_settings(keys={"one": {**key, "statements": [64 * "0"]}})
    load_settings(keys={"one": key}, auth={"set_role": "any"})


def test_two_issuers_whose_subjects_could_have_one_name_are_refused() -> None:
    """Answers by key and cached ones are kept by jwt:ISSUER:SUBJECT."""
    issuer = {"secret": SECRET, "roles": ["web"]}
    assert "issuers.a and issuers.a:b" in refused(issuers={"a": issuer, "a:b": issuer})
    names = {"https://one.example", "https://two.example", "a", "ab:c"}
    assert load_settings(issuers=dict.fromkeys(names, issuer)).issuers.keys() == names


def test_keys_of_an_issuer_come_over_https_but_for_tests() -> None:
    issuer = {"jwks_url": "http://127.0.0.1/jwks.json", "roles": ["app"]}
    assert "issuers.one.jwks_url must begin with https://" in refused(issuers={"one": issuer})
    load_settings(issuers={"one": issuer}, auth={"jwks_insecure": True})
