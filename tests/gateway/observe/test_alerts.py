import pytest

from sqlhttp_gateway.observe.alerts import NAMES, RESOLVED_AFTER, Alarms, Alert, Severity, alerts_of
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.settings import WatchSettings
from tests.support.reports import pool, sample

SETTINGS = WatchSettings()


def judged(**changes: object) -> dict[str, Alert]:
    return {alert.name: alert for alert in alerts_of(sample(**changes), [pool()], SETTINGS)}


def test_quiet_postgres_is_no_alert() -> None:
    assert judged() == {}
    assert alerts_of(None, [], SETTINGS) == []


@pytest.mark.parametrize(
    ("others", "severity"),
    [(66, None), (67, Severity.WARNING), (81, Severity.WARNING), (82, Severity.CRITICAL), (96, Severity.CRITICAL)],
)
def test_connections_are_judged_by_their_share_of_what_ordinary_roles_can_have(
    others: int, severity: Severity | None
) -> None:
    # 97 ordinary places: 70 % are 67.9 and 85 % are 82.45, and the watch takes one itself
    found = judged(by_state={"idle": others})
    assert (found["connections"].severity if found else None) == severity


def test_text_has_the_numbers_and_who_has_the_connections() -> None:
    text = judged(by_state={"idle": 90}, by_application={"worker": 60, "web": 29, "psql": 1, "x": 0})[
        "connections"
    ].text
    assert text == (
        "91 of 97 connections are taken (94%): max_connections is 100, of which 3 are reserved. "
        "Most are of worker 60, web 29, psql 1."
    )


def test_each_threshold_is_passed_only_by_more_than_it() -> None:
    at = {
        "by_state": {"idle in transaction": 6, "idle in transaction (aborted)": 4},
        "waiting": {"Lock": 15, "IO": 5},
        "longest_query": 30.0,
    }
    above = {
        "by_state": {"idle in transaction": 7, "idle in transaction (aborted)": 4},
        "waiting": {"Lock": 16, "IO": 5},
        "longest_query": 30.1,
    }
    assert judged(**at) == {}
    assert {name: (alert.value, alert.threshold) for name, alert in judged(**above).items()} == {
        "idle_in_transaction": (11, 10),
        "waiting": (21, 20),
        "long_query": (30.1, 30.0),
    }


def test_postgres_that_does_not_answer_is_critical() -> None:
    [alert] = alerts_of(Sample(at=1.0, error="cannot connect"), [], SETTINGS)
    assert (alert.name, alert.severity) == ("database", Severity.CRITICAL)
    assert "cannot connect" in alert.text


def test_request_that_waits_too_long_for_a_connection_names_its_pool() -> None:
    pools = [pool(longest_wait=0.9, waiting=5), pool(database="busy", longest_wait=2.5, waiting=9, leased=10)]
    [alert] = alerts_of(None, pools, SETTINGS)
    assert alert.name == "pool_wait"
    assert alert.text == (
        "9 requests wait for a connection to database busy as role app, the first for 2.5 s: 10 of 10 connections are "
        "in use."
    )


def test_target_that_cannot_be_reached_is_critical_and_named_once() -> None:
    down = pool(is_down=True)
    [alert] = alerts_of(None, [pool(), down, pool(database="other", is_down=True)], SETTINGS)
    assert (alert.name, alert.severity, alert.value) == ("target_down", Severity.CRITICAL, 1)
    assert alert.text.endswith(f"target {down.target} ({down.host}:{down.port}).")


def test_target_that_is_asked_by_a_socket_is_named_by_its_path() -> None:
    [alert] = alerts_of(None, [pool(is_down=True, host="/run/postgresql", port=5432)], SETTINGS)
    assert alert.text.endswith("(/run/postgresql/.s.PGSQL.5432).")


def test_every_alert_has_a_name_that_is_listed() -> None:
    loud = sample(by_state={"idle in transaction": 90}, waiting={"Lock": 50}, longest_query=99.0, long_queries=1)
    found = alerts_of(loud, [pool(longest_wait=9.0, is_down=True)], SETTINGS) + alerts_of(
        Sample(at=1.0, error="x"), [], SETTINGS
    )
    assert {alert.name for alert in found} == set(NAMES)


LOW = Alert("connections", Severity.WARNING, 0.7, 0.7, "70 of 100.")
HIGH = Alert("connections", Severity.CRITICAL, 0.9, 0.85, "90 of 100.")


def test_alert_is_told_once_however_long_it_lasts() -> None:
    alarms = Alarms()
    assert [(change.alert, change.is_over) for change in alarms.update([LOW], now=100.0)] == [(LOW, False)]
    assert alarms.update([LOW], now=110.0) == []
    assert [change.since for change in alarms.firing] == [100.0]


def test_change_of_severity_is_told_with_the_time_it_began() -> None:
    alarms = Alarms()
    alarms.update([LOW], now=100.0)
    [change] = alarms.update([HIGH], now=110.0)
    assert (change.alert, change.since, change.is_over) == (HIGH, 100.0, False)


def test_clock_that_was_set_back_keeps_no_alert() -> None:
    alarms = Alarms()
    alarms.update([LOW], now=100_000.0)
    assert alarms.update([], now=100.0) == []
    assert [change.is_over for change in alarms.update([], now=100.0 + RESOLVED_AFTER)] == [True]


def test_alert_is_over_only_when_its_reason_stayed_away() -> None:
    alarms = Alarms()
    alarms.update([LOW], now=100.0)
    assert alarms.update([], now=100.0 + RESOLVED_AFTER - 1) == []
    assert alarms.update([LOW], now=100.0 + RESOLVED_AFTER) == [], "it was back, so it never was over"
    assert alarms.update([], now=100.0 + RESOLVED_AFTER * 2 - 1) == []
    [change] = alarms.update([], now=100.0 + RESOLVED_AFTER * 2)
    assert (change.alert, change.since, change.is_over) == (LOW, 100.0, True)
    assert alarms.firing == ()
    assert alarms.update([], now=1000.0) == []
