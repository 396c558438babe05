"""Whole conversations with a server, from its bytes."""

import pytest

from sqlhttp import InterfaceError, ProtocolError
from sqlhttp._request import Statement
from sqlhttp._wire.conversation import Conversation, Outcome
from sqlhttp._wire.frontend import encode_copy_fail, encode_password, encode_startup, encode_statements
from tests.support.backend_bytes import (
    ACCEPTED,
    ASKS_PASSWORD,
    BOUND,
    EMPTY,
    GREETING,
    NO_DATA,
    PARSED,
    completed,
    done,
    failed,
    message,
    notified,
    ready,
    selected,
)

ONE = Statement("select 1")
WHO = {"user": "me"}


def logged_in() -> Conversation:
    conversation = Conversation()
    conversation.log_in(WHO, b"secret")
    conversation.receive(GREETING)
    return conversation


def test_start_up_password_and_first_statement_are_one_write() -> None:
    conversation = Conversation()
    out = conversation.log_in(WHO, b"secret", [ONE])
    assert out == encode_startup(WHO) + encode_password(b"secret") + encode_statements([ONE])
    assert conversation.receive(GREETING) == b""
    assert (conversation.is_answered, conversation.status) == (False, "I")
    conversation.receive(selected([("a", 23)], ["1"], status="T"))
    assert (conversation.is_answered, conversation.status) == (True, "T")
    [answer] = conversation.outcome.results
    assert (answer["rows"], answer["command"], answer["rowCount"]) == ([["1"]], "SELECT", 1)


def test_one_byte_at_a_time_is_the_same() -> None:
    conversation = Conversation()
    conversation.log_in(WHO, b"secret", [ONE])
    for byte in GREETING + selected([("a", 23)], ["1"], ["2"]):
        assert not conversation.is_answered
        conversation.receive(bytes([byte]))
    assert conversation.is_answered
    assert conversation.outcome.results[0]["rows"] == [["1"], ["2"]]


def test_an_error_leaves_what_went_before_and_the_next_question_starts_anew() -> None:
    conversation = logged_in()
    conversation.ask([ONE, ONE])
    conversation.receive(PARSED + BOUND + NO_DATA + completed("INSERT 0 1") + failed("42601") + ready("E"))
    assert conversation.is_answered
    results, error = conversation.outcome
    assert len(results) == 1
    assert error is not None
    assert error["code"] == "42601"
    conversation.ask([ONE])
    assert conversation.outcome == Outcome([], None)
    conversation.receive(PARSED + BOUND + NO_DATA + EMPTY + ready("I"))
    assert conversation.outcome.results == [{"fields": [], "rows": [], "command": "", "rowCount": None}]


def test_notifications_come_at_any_time() -> None:
    conversation = logged_in()
    conversation.receive(notified("a"))
    conversation.ask([ONE])
    conversation.receive(notified("b") + done("LISTEN"))
    assert [notification.channel for notification in conversation.notifications] == ["a", "b"]


def test_copy_in_is_answered_with_a_failure() -> None:
    conversation = logged_in()
    conversation.ask([Statement("copy t from stdin")])
    out = conversation.receive(PARSED + BOUND + NO_DATA + message(b"G", b"\0\0\0"))
    assert out == encode_copy_fail("COPY needs a driver of its own; it is not possible here")
    conversation.receive(failed("57014") + ready())
    assert conversation.outcome.error is not None
    assert conversation.outcome.error["code"] == "0A000"


def test_copy_out_is_read_to_its_end() -> None:
    conversation = logged_in()
    conversation.ask([Statement("copy t to stdout")])
    sent = message(b"H", b"\0\0\0") + message(b"d", b"1\n") + message(b"c") + completed("COPY 1") + ready()
    assert conversation.receive(PARSED + BOUND + NO_DATA + sent) == b""
    assert conversation.is_answered
    assert conversation.outcome.error is not None


def test_settings_notices_and_negotiation_say_nothing() -> None:
    conversation = logged_in()
    conversation.ask([ONE])
    conversation.receive(message(b"S", b"a\0b\0") + message(b"N", b"SNOTICE\0\0") + message(b"v", b"\0" * 8))
    assert not conversation.is_answered
    assert conversation.has_begun_to_answer


@pytest.mark.parametrize("method", [5, 10, 99])
def test_a_log_in_that_is_not_cleartext_is_refused(method: int) -> None:
    conversation = Conversation()
    conversation.log_in(WHO, b"secret")
    with pytest.raises(InterfaceError, match="log-in"):
        conversation.receive(message(b"R", method.to_bytes(4, "big")))


def test_a_password_that_is_asked_for_and_not_there() -> None:
    conversation = Conversation()
    assert b"p" not in conversation.log_in(WHO, None)[-6:]
    with pytest.raises(InterfaceError, match="password"):
        conversation.receive(ASKS_PASSWORD)


def test_nobody_needs_to_ask_for_the_password() -> None:
    conversation = Conversation()
    conversation.log_in(WHO, b"secret")
    conversation.receive(ACCEPTED + ready())
    assert conversation.is_answered


@pytest.mark.parametrize("data", [ready(), message(b"Z", b"?"), message(b"?")])
def test_what_was_not_due_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        logged_in().receive(data)
