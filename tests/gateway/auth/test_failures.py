"""How many wrong passwords are looked at, to the second."""

import pytest

from sqlhttp_gateway.auth import failures as failures_module
from sqlhttp_gateway.auth.failures import Attempt, Failures
from sqlhttp_gateway.errors import TooManyFailures
from sqlhttp_gateway.settings import AuthSettings

APP = Attempt("default", "app", "192.0.2.7")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> Failures:
    return Failures(AuthSettings(), clock)


def fail(failures: Failures, times: int, attempt: Attempt = APP) -> None:
    for _ in range(times):
        failures.check(attempt)
        failures.failed(attempt)


def test_ten_wrong_ones_in_a_row_and_none_is_looked_at_for_two_minutes(failures: Failures, clock: Clock) -> None:
    fail(failures, 10)
    clock.now += 20
    with pytest.raises(TooManyFailures) as caught:
        failures.check(APP)
    assert caught.value.message == (
        '10 passwords for role "app" from 192.0.2.7 were wrong within 150 s (auth.failures): '
        "none is looked at for another 100 s"
    )
    assert (caught.value.status, caught.value.retry_after) == (429, 100)
    clock.now += 100
    fail(failures, 9)
    failures.check(APP)


def test_they_count_by_role_and_by_address(failures: Failures) -> None:
    fail(failures, 10)
    failures.check(APP._replace(role="other"))
    failures.check(APP._replace(peer="192.0.2.8"))
    failures.check(APP._replace(target="reports"))


def test_addresses_of_one_ipv6_network_count_as_one(failures: Failures) -> None:
    for number in range(10):
        failures.failed(APP._replace(peer=f"2001:db8:0:7::{number}"))
    with pytest.raises(TooManyFailures, match=r"from 2001:db8:0:7::/64 were wrong"):
        failures.check(APP._replace(peer="2001:db8:0:7:ffff::1"))
    failures.check(APP._replace(peer="2001:db8:0:8::1"))


def test_ipv4_addresses_on_an_ipv6_socket_count_each(failures: Failures) -> None:
    fail(failures, 10, APP._replace(peer="::ffff:192.0.2.7"))
    failures.check(APP._replace(peer="::ffff:192.0.2.8"))
    with pytest.raises(TooManyFailures):
        failures.check(APP)
    fail(failures, 10, APP._replace(peer="fe80::1%eth0"))
    with pytest.raises(TooManyFailures):
        failures.check(APP._replace(peer="fe80::2%eth0"))


def test_right_one_forgives_those_before(failures: Failures) -> None:
    fail(failures, 9)
    failures.succeeded(APP)
    fail(failures, 9)
    failures.check(APP)


def test_old_ones_do_not_count(failures: Failures, clock: Clock) -> None:
    for _ in range(100):
        fail(failures, 1)
        clock.now += 17  # nine within 150 s, ever again
    failures.check(APP)


def test_numbers_are_settings(clock: Clock) -> None:
    failures = Failures(AuthSettings(failures=2, failures_within=1, failures_refused=5), clock)
    fail(failures, 1)
    clock.now += 1.1
    fail(failures, 2)
    with pytest.raises(TooManyFailures):
        failures.check(APP)
    failures.reconfigure(AuthSettings(failures=0))
    clock.now += 5
    fail(failures, 1000)


def test_made_up_names_push_out_the_oldest_but_nobody_who_is_refused(
    failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures_module, "_MOST", 100)
    fail(failures, 10)
    for number in range(1000):
        fail(failures, 1, APP._replace(role=f"role_{number}"))
    assert len(failures) == 100
    with pytest.raises(TooManyFailures):
        failures.check(APP)
    for number in range(200):
        fail(failures, 10, APP._replace(peer=f"peer {number}"))
    assert len(failures) == 100, "also when all of them are refused"
