"""Time limits, with the time given."""

import pytest

from sqlhttp_gateway.errors import GatewayError, IdleInTransactionTimeout, IdleSessionTimeout, TransactionTimeout
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.clocks import Clocks


def clocks(**settings: float) -> Clocks:
    """Limits that are all off but these."""
    off = {
        "idle_in_transaction_timeout": 0.0,
        "transaction_timeout": 0.0,
        "client_idle_timeout": 0.0,
        "pinned_idle_timeout": 0.0,
    }
    return Clocks(TunnelSettings(**(off | settings)), 100.0)  # type: ignore[arg-type]


def see(of: Clocks, now: float, what: str = "") -> None:
    of.see(now, is_busy="b" in what, in_transaction="t" in what, is_pinned="p" in what)


@pytest.mark.parametrize(
    ("setting", "state", "kind"),
    [
        ("idle_in_transaction_timeout", "t", IdleInTransactionTimeout),
        ("transaction_timeout", "t", TransactionTimeout),
        ("transaction_timeout", "tb", TransactionTimeout),
        ("transaction_timeout", "b", TransactionTimeout),
        ("client_idle_timeout", "", IdleSessionTimeout),
        ("client_idle_timeout", "p", IdleSessionTimeout),
        ("pinned_idle_timeout", "p", IdleSessionTimeout),
    ],
)
def test_limit_is_passed_when_its_state_has_lasted_that_long(
    setting: str, state: str, kind: type[GatewayError]
) -> None:
    of = clocks(**{setting: 5.0})
    see(of, 110.0, state)
    assert of.deadline() == 115.0
    assert of.passed(114.9) is None
    error = of.passed(115.0)
    assert type(error) is kind
    assert f"tunnel.{setting} is 5 s" in str(error)


@pytest.mark.parametrize(
    ("setting", "state"),
    [
        ("idle_in_transaction_timeout", ""),
        ("idle_in_transaction_timeout", "tb"),
        ("transaction_timeout", ""),
        ("client_idle_timeout", "t"),
        ("client_idle_timeout", "b"),
        ("pinned_idle_timeout", ""),
        ("pinned_idle_timeout", "tp"),
    ],
)
def test_limit_does_not_run_in_another_state(setting: str, state: str) -> None:
    of = clocks(**{setting: 5.0})
    see(of, 110.0, state)
    assert of.deadline() is None
    assert of.passed(1000.0) is None


def test_zero_is_no_limit() -> None:
    of = clocks()
    for state in ("", "t", "b", "p", "tb"):
        see(of, 110.0, state)
        assert of.deadline() is None


def test_being_idle_begins_with_the_last_answer_and_with_every_word() -> None:
    of = clocks(client_idle_timeout=5.0)
    see(of, 110.0, "b")
    see(of, 170.0)
    assert of.deadline() == 175.0
    see(of, 172.0)  # seen again, nothing has changed
    assert of.deadline() == 175.0
    of.touch(173.0)
    assert of.deadline() == 178.0


def test_a_transaction_is_as_old_as_its_first_statement() -> None:
    of = clocks(transaction_timeout=5.0)
    see(of, 110.0, "b")
    see(of, 111.0, "t")
    see(of, 112.0, "tb")
    assert of.deadline() == 115.0
    see(of, 113.0)
    assert of.deadline() is None
    see(of, 114.0, "b")
    assert of.deadline() == 119.0


@pytest.mark.parametrize("before", ["", "t", "p", "tp"])
def test_question_is_a_word_and_its_beginning_at_once(before: str) -> None:
    limits = {"transaction_timeout": 5.0, "client_idle_timeout": 7.0, "idle_in_transaction_timeout": 9.0}
    one, other = clocks(**limits), clocks(**limits)
    for each in (one, other):
        see(each, 110.0, before)
    one.asked(112.0, is_pinned="p" in before)
    other.touch(112.0)
    see(other, 112.0, before + "b")
    for after in ("b", before, ""):
        assert one.deadline() == other.deadline()
        for each in (one, other):
            see(each, 113.0, after)


def test_of_two_limits_the_first_one_counts() -> None:
    of = clocks(transaction_timeout=10.0, idle_in_transaction_timeout=3.0)
    see(of, 110.0, "t")
    assert of.deadline() == 113.0
    of.touch(118.0)
    assert of.deadline() == 120.0
    assert isinstance(of.passed(120.0), TransactionTimeout)
