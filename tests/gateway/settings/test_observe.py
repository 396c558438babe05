"""What is told, and to whom."""

import pytest

from sqlhttp_gateway.settings import AuditSettings, load_settings
from tests.support.refused import refused


def test_what_is_critical_is_more_than_what_is_a_warning() -> None:
    text = refused(watch={"connections_warning": 0.9, "connections_critical": 0.8})
    assert "connections_warning is above connections_critical" in text


def test_alerts_are_posted_over_http_alone_and_where_to_is_not_shown() -> None:
    text = refused(watch={"webhook_url": "ftp://hunter2@alerts.example"})
    assert "webhook_url must begin with https:// or http://" in text
    assert "hunter2" not in text
    assert "hunter2" not in repr(load_settings(watch={"webhook_url": "https://alerts.example/hunter2"}))


def test_who_may_look_is_named_by_networks() -> None:
    assert "localhost" in refused(admin={"allow_from": ["localhost"]})


@pytest.mark.parametrize("word", ["all", "values"])
def test_an_audit_has_no_word_for_parameters(word: str) -> None:
    assert refused(audit={"statements": word}).startswith("audit.statements: ")
    assert AuditSettings().statements == "off"
