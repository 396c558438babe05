"""What a tunnel's session and its backend have to agree on, through a pipeline, message by message."""

import pytest

from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import Pipeline, Residue
from sqlhttp_gateway.wire.told import Greeting
from sqlhttp_gateway.wire.tunnel_events import Failed, Greeted, Outdated
from tests.support.postgres_model import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    error,
    execute,
    parameter_status,
    query,
    ready,
    row,
)
from tests.support.tunnel_pipeline import (
    GREETING,
    KEY,
    REPORTED,
    SET_DONE,
    SET_ZONE,
    a_backend,
    a_tunnel,
    answer_question,
    answered,
    attached,
    events,
    logged_in,
    prepare,
    run,
    sent,
)

SELECTED = command_complete("SELECT 1") + ready()
SELECTED_WITHIN = command_complete("SELECT 1") + ready("T")


def test_second_of_the_same_kind_is_let_in_without_a_backend() -> None:
    backend = a_backend()
    first = a_tunnel({"TimeZone": "utc"})
    first.attach(backend)
    answered(first, SET_ZONE)
    [greeted] = [event for event in iter(first.next_event, None) if isinstance(event, Greeted)]
    second = a_tunnel({"TimeZone": "utc"})
    second.greet(greeted.greeting)
    assert second.to_frontend() == GREETING
    assert not second.needs_backend
    second.receive_frontend(query("SELECT 1"))
    assert second.needs_backend
    second.attach(backend)
    assert b"timezone" in second.to_backend()  # what it asked for is set before its statement
    assert events(second) == []
    assert second.to_frontend() == b""


def test_greeting_that_is_out_of_date_is_mended_with_the_first_backend() -> None:
    tunnel = a_tunnel()
    tunnel.greet(Greeting({"TimeZone": "GMT", "client_encoding": "UTF8"}, {"TimeZone": "GMT"}))
    tunnel.to_frontend()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    assert tunnel.to_frontend() == parameter_status("TimeZone", "UTC")
    assert events(tunnel) == [Outdated()]


def test_log_in_tells_what_the_server_reports_the_key_and_exactly_one_ready() -> None:
    tunnel = a_tunnel()
    assert tunnel.needs_backend
    assert tunnel.to_frontend() == b""
    tunnel.attach(a_backend())
    assert tunnel.to_frontend() == GREETING
    assert tunnel.to_backend() == b""
    assert tunnel.may_release


def test_query_that_came_with_the_password_goes_out_after_the_log_in() -> None:
    tunnel = a_tunnel()
    assert sent(tunnel, query("SELECT 1")) == b""
    tunnel.attach(a_backend())
    assert tunnel.to_frontend() == GREETING
    assert tunnel.to_backend() == query("SELECT 1")
    assert not tunnel.may_release


def test_start_up_parameters_are_set_and_checked_before_the_log_in_is_over() -> None:
    tunnel = a_tunnel({"application_name": "web", "client_encoding": "UTF8"})
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    prologue = tunnel.to_backend()
    assert b"SELECT pg_catalog.set_config($1,$2,false)\0" in prologue
    assert b"application_name" in prologue
    assert b"client_encoding" not in prologue  # the server has it already
    assert prologue.endswith(SYNC)
    assert tunnel.to_frontend() == b""
    setting = PARSE_COMPLETE + BIND_COMPLETE + parameter_status("application_name", "web") + row(b"web")
    greeting = answered(tunnel, setting + command_complete("SELECT 1") + ready())
    assert greeting == GREETING.replace(KEY, parameter_status("application_name", "web") + KEY)
    assert tunnel.to_backend() == query("SELECT 1")


def test_start_up_parameter_that_the_server_refuses_ends_the_tunnel_in_its_words() -> None:
    tunnel = a_tunnel({"work_mem": "lots"})
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    refusal = error("22023", 'invalid value for parameter "work_mem": "lots"')
    told = answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + refusal + ready())
    assert told == refusal.replace(b"SERROR\0VERROR", b"SFATAL\0VFATAL")
    (failed,) = events(tunnel)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, PostgresError)
    assert failed.error.code == "22023"
    assert query("SELECT 1") not in tunnel.to_backend()
    assert tunnel.is_terminated


def test_nothing_follows_the_end_of_a_tunnel_whose_parameter_the_next_backend_refuses() -> None:
    """What was sent behind it in the same write is answered, too, with what is true without the parameter."""
    tunnel = a_tunnel({"my.x": "odd"})
    tunnel.attach(a_backend())
    tunnel.to_backend()
    assert answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + row(b"odd") + command_complete("SELECT 1") + ready())
    tunnel.detach()
    tunnel.receive_frontend(query("SHOW my.x"))
    tunnel.attach(a_backend())
    assert tunnel.to_backend().endswith(SYNC + query("SHOW my.x"))
    refusal = error("22021", "invalid byte sequence") + ready()
    unknown = error("42704", 'unrecognized configuration parameter "my.x"') + ready()
    told = answered(tunnel, PARSE_COMPLETE + refusal + unknown)
    assert told == error("22021", "invalid byte sequence").replace(b"SERROR\0VERROR", b"SFATAL\0VFATAL")
    assert answered(tunnel, unknown) == b""


def test_encoding_is_in_force_before_values_in_it_are_bound() -> None:
    tunnel = a_tunnel({"application_name": "x", "client_encoding": "LATIN1"})
    tunnel.attach(a_backend())
    prologue = tunnel.to_backend()
    assert prologue.count(b"E\0\0\0\x09") == 2
    assert prologue.index(b"client_encoding") < prologue.index(b"E\0\0\0\x09") < prologue.index(b"application_name")


def test_parameter_is_asked_for_after_set_and_set_on_the_next_backend() -> None:
    tunnel = attached()
    question = run(tunnel, "SET work_mem = '1024kB'", "SET")
    assert b"SELECT pg_catalog.current_setting(E'work_mem', true)" in question
    assert not tunnel.may_release
    answer_question(tunnel, b"1MB")
    assert tunnel.may_release
    assert tunnel.detach() is Residue.NOTHING
    tunnel.receive_frontend(query("SHOW work_mem"))
    tunnel.attach(a_backend())
    frames = tunnel.to_backend()
    assert frames.index(b"work_mem\0\0\0\x031MB") < frames.index(SYNC) < frames.index(query("SHOW work_mem"))
    shown = row(b"1MB") + command_complete("SHOW") + ready()
    assert answered(tunnel, PARSE_COMPLETE + SET_DONE + shown) == shown


def test_set_within_a_transaction_is_asked_about_at_its_end() -> None:
    tunnel = attached()
    assert run(tunnel, "BEGIN; SET a.b = 1", "SET", status="T") == b""
    question = run(tunnel, "ROLLBACK", "ROLLBACK")
    assert b"E'a.b'" in question
    answer_question(tunnel, None)
    tunnel.detach()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == query("SELECT 1")


def test_next_query_need_not_wait_for_the_question() -> None:
    tunnel = attached()
    run(tunnel, "SET a.b = 1", "SET")
    assert sent(tunnel, query("SELECT 1")) == query("SELECT 1")
    done = command_complete("SELECT 1") + ready()
    answer = PARSE_COMPLETE + BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, answer + done) == done
    assert tunnel.may_release


def test_set_by_a_prepared_statement_is_noticed_when_it_runs() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SET a.b = 1")
    assert tunnel.to_backend() == b""
    sent(tunnel, bind("", "s") + execute("") + SYNC)
    answered(tunnel, BIND_COMPLETE + command_complete("SET") + ready())
    assert b"E'a.b'" in tunnel.to_backend()


def test_change_that_the_server_reports_is_told_and_carried_on_without_a_question() -> None:
    tunnel = attached()
    sent(tunnel, query("SELECT f()"))
    answer = command_complete("SELECT 1") + parameter_status("TimeZone", "CET") + ready()
    assert answered(tunnel, answer) == answer
    assert tunnel.to_backend() == b""
    tunnel.detach()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    assert b"timezone\0\0\0\x03CET" in tunnel.to_backend()
    answer = PARSE_COMPLETE + BIND_COMPLETE + row(b"CET") + command_complete("SELECT 1")
    assert answered(tunnel, answer + parameter_status("TimeZone", "CET") + ready()) == b""  # it knows


def test_role_is_in_force_before_anything_is_sent() -> None:
    tunnel = attached()
    run(tunnel, "SET ROLE bob", "SET")
    answer_question(tunnel, b"bob")
    tunnel.detach()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    assert query("SELECT 1") not in tunnel.to_backend()
    answered(tunnel, PARSE_COMPLETE + SET_DONE)
    assert tunnel.to_backend() == query("SELECT 1")


def test_role_that_may_not_be_taken_any_more_ends_the_tunnel_before_anything_runs() -> None:
    tunnel = attached()
    run(tunnel, "SET ROLE bob", "SET")
    answer_question(tunnel, b"bob")
    tunnel.detach()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend())
    tunnel.to_backend()
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + error("42501", "permission denied") + ready())
    assert tunnel.to_backend() == b""
    assert isinstance(events(tunnel)[0], Failed)


def test_program_is_told_of_another_backends_defaults() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend(REPORTED | {"TimeZone": "CET"}))
    assert tunnel.to_frontend() == parameter_status("TimeZone", "CET")
    tunnel.detach()


def in_cet(*pins: Pin) -> Pipeline:
    """A tunnel whose start-up asks for a time zone, on a backend that has another."""
    tunnel = a_tunnel({"TimeZone": "CET"}, pins=pins)
    tunnel.attach(a_backend())
    answered(tunnel, PARSE_COMPLETE + parameter_status("TimeZone", "CET") + BIND_COMPLETE + row(b"CET") + SELECTED)
    tunnel.to_backend()
    return tunnel


def test_reset_takes_back_to_start_up_on_this_backend_too() -> None:
    tunnel = in_cet()
    sent(tunnel, query("RESET ALL"))
    answered(tunnel, command_complete("RESET") + parameter_status("TimeZone", "UTC") + ready())
    tunnel.receive_frontend(query("SHOW TimeZone"))
    assert query("SHOW TimeZone") not in tunnel.to_backend()
    answer_question(tunnel, b"UTC")
    assert b"timezone\0\0\0\x03CET" in tunnel.to_backend()
    answered(tunnel, BIND_COMPLETE + row(b"CET") + command_complete("SELECT 1") + ready())
    assert tunnel.to_backend() == query("SHOW TimeZone")


def test_program_may_go_on_after_reset_when_it_has_been_told_what_start_up_had_asked_for() -> None:
    tunnel = in_cet()
    sent(tunnel, query("RESET ALL"))
    reset = command_complete("RESET") + parameter_status("TimeZone", "UTC")
    assert answered(tunnel, reset + ready()) == reset
    answer_question(tunnel, b"UTC")
    answer = BIND_COMPLETE + row(b"CET") + command_complete("SELECT 1") + parameter_status("TimeZone", "CET")
    assert answered(tunnel, answer + ready()) == parameter_status("TimeZone", "CET") + ready()
    assert tunnel.may_release


def test_reset_that_took_nothing_is_answered_as_soon_as_that_is_known() -> None:
    tunnel = in_cet()
    sent(tunnel, query("RESET TimeZone"))
    answered(tunnel, command_complete("RESET") + ready())
    done = PARSE_COMPLETE + BIND_COMPLETE + row(b"CET") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, done) == ready()


@pytest.mark.parametrize("text", ["RESET ALL", "DISCARD ALL"])
def test_reset_takes_back_to_start_up_where_the_backend_stays_for_the_session(text: str) -> None:
    tunnel = in_cet(Pin.SESSION)
    sent(tunnel, query(text))
    reset = command_complete(text.removesuffix(" ALL") if text == "RESET ALL" else text)
    assert answered(tunnel, CLOSE_COMPLETE + reset + ready()) == reset
    question = tunnel.to_backend()
    assert b"pg_settings" in question
    assert b'{"timezone"}' in question
    assert question[5:6] != b"\0"  # not in the place of the unnamed statement, which is the program's
    assert answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + row(b"timezone") + SELECTED) == b""
    setting = tunnel.to_backend()
    assert b"timezone\0\0\0\x03CET" in setting
    # DISCARD ALL has dropped the gateway's own statements, too
    assert setting.startswith(b"P" if text == "DISCARD ALL" else b"B")
    parsed = PARSE_COMPLETE if text == "DISCARD ALL" else b""
    answer = parsed + BIND_COMPLETE + row(b"CET") + SELECTED
    assert answered(tunnel, answer) == ready()


def test_reset_within_a_transaction_takes_back_to_start_up_at_once() -> None:
    tunnel = in_cet()
    sent(tunnel, query("BEGIN"))
    answered(tunnel, command_complete("BEGIN") + ready("T"))
    sent(tunnel, query("RESET TimeZone"))
    answered(tunnel, command_complete("RESET") + ready("T"))
    assert b"pg_settings" in tunnel.to_backend()
    assert answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + row(b"timezone") + SELECTED_WITHIN) == b""
    assert b"timezone\0\0\0\x03CET" in tunnel.to_backend()
    assert answered(tunnel, BIND_COMPLETE + row(b"CET") + SELECTED_WITHIN) == ready("T")


def test_reset_in_a_transaction_that_has_failed_asks_nothing() -> None:
    tunnel = in_cet()
    sent(tunnel, query("BEGIN; RESET TimeZone; SELECT 1/0"))
    failed = command_complete("BEGIN") + command_complete("RESET") + error("22012", "division by zero") + ready("E")
    assert answered(tunnel, failed) == failed
    assert tunnel.to_backend() == b""


def test_reset_asks_nothing_where_start_up_has_asked_for_nothing_of_its_own() -> None:
    tunnel = a_tunnel({"TimeZone": "UTC"}, pins=(Pin.SESSION,))
    tunnel.attach(a_backend())
    tunnel.to_frontend()
    sent(tunnel, query("RESET ALL"))
    answer = command_complete("RESET") + ready()
    assert answered(tunnel, CLOSE_COMPLETE + answer) == answer
    assert tunnel.to_backend() == b""


def test_end_of_the_backend_behind_a_question_is_told_to_the_program() -> None:
    tunnel = attached()
    assert run(tunnel, "SET work_mem = '1024kB'", "SET")
    end = error("57P01", "terminating connection due to administrator command").replace(b"ERROR", b"FATAL")
    assert answered(tunnel, end) == end
