"""What of a session is carried from backend to backend, what is asked, and what pins."""

import pytest

from sqlhttp_gateway.wire.effects import Ask, Effects, Pin, effects_of
from sqlhttp_gateway.wire.session import MAX_PARAMETERS, Session, lowered

DEFAULTS = lowered({"TimeZone": "UTC", "client_encoding": "UTF8", "session_authorization": "ann"})


def after(session: Session, text: str, *values: bytes | None) -> tuple[tuple[str, bytes], ...]:
    """Run `text` in a transaction of its own, after which the server answers `values`."""
    session.note(effects_of(text.encode()))
    question = session.question()
    assert question is not None
    return session.answered(question, values)


def test_only_what_differs_from_the_backends_own_values_is_needed() -> None:
    session = Session({"timezone": "UTC", "client_encoding": "UTF8", "application_name": "web"})
    assert session.needed(DEFAULTS) == (("application_name", b"web"),)
    assert session.needed(lowered({"TimeZone": "CET"})) == (
        ("client_encoding", b"UTF8"),
        ("timezone", b"UTC"),
        ("application_name", b"web"),
    )


def test_encoding_is_set_first_and_identity_last() -> None:
    session = Session({"role": "r", "session_authorization": "s", "work_mem": "1MB", "client_encoding": "LATIN1"})
    names = [name for name, _ in session.needed(DEFAULTS)]
    assert names == ["client_encoding", "work_mem", "session_authorization", "role"]


def test_servers_own_way_to_write_a_value_is_kept() -> None:
    session = Session({"client_encoding": "utf-8"})
    session.was_set("client_encoding", b"UTF8")
    assert session.needed(DEFAULTS) == ()


def test_value_after_set_is_the_one_that_the_server_gives() -> None:
    session = Session({})
    after(session, "SET Work_Mem = '1024kB'", b"1MB")
    assert session.needed(DEFAULTS) == (("work_mem", b"1MB"),)


def test_question_is_one_select_of_columns_in_order() -> None:
    session = Session({})
    session.note(effects_of(b"CREATE TEMP TABLE t (); SET a.b = 'x''y'"))
    question = session.question()
    assert question is not None
    assert question.pins == (Pin.TEMPORARY,)
    assert question.names == ("a.b",)
    assert question.text.startswith(b"SELECT EXISTS (SELECT FROM pg_catalog.pg_depend")
    assert question.text.endswith(b", pg_catalog.current_setting(E'a.b', true)")
    assert session.question() is None


def test_name_is_quoted_for_any_server() -> None:
    session = Session({})
    session.note(Effects(sets=("a'b\\c",)))
    question = session.question()
    assert question is not None
    assert question.text == b"SELECT pg_catalog.current_setting(E'a''b\\\\c', true)"


def test_parameter_that_the_server_does_not_know_is_forgotten() -> None:
    session = Session({})
    after(session, "SET a.b = 1", b"1")
    after(session, "SET a.b = 2", None)
    assert session.parameters == {}


def test_role_none_is_no_role() -> None:
    session = Session({})
    after(session, "SET ROLE bob", b"bob")
    assert session.parameters == {"role": b"bob"}
    after(session, "SET ROLE NONE", b"none")
    assert session.parameters == {}


def test_program_that_names_no_encoding_has_the_databases_as_it_has_directly() -> None:
    latin = {"client_encoding": b"UTF8", "server_encoding": b"LATIN1"}
    assert Session({}).needed(latin) == (("client_encoding", b"LATIN1"),)
    assert Session({"client_encoding": "UTF8"}).needed(latin) == ()
    assert Session({}).needed(latin | {"server_encoding": b"UTF8"}) == ()


def test_reset_takes_back_to_what_start_up_asked_for_and_that_has_to_be_set_again() -> None:
    session = Session({"work_mem": "1MB"})
    after(session, "SET work_mem = '2MB'", b"2MB")
    assert after(session, "RESET work_mem", b"4MB") == (("work_mem", b"1MB"),)
    assert session.parameters == {"work_mem": b"1MB"}


def test_reset_of_what_start_up_did_not_ask_for_leaves_nothing() -> None:
    session = Session({})
    after(session, "SET work_mem = '2MB'", b"2MB")
    assert after(session, "RESET work_mem", b"4MB") == ()
    assert session.parameters == {}


def test_reset_that_was_rolled_back_changes_nothing() -> None:
    session = Session({"work_mem": "1MB"})
    after(session, "SET work_mem = '2MB'", b"2MB")
    assert after(session, "RESET work_mem", b"2MB") == ()
    assert session.parameters == {"work_mem": b"2MB"}


def test_reset_all_leaves_who_the_session_is() -> None:
    session = Session({"work_mem": "1MB"})
    after(session, "SET ROLE bob", b"bob")
    after(session, "RESET ALL", b"4MB")
    assert session.parameters == {"role": b"bob", "work_mem": b"1MB"}


def test_reset_with_nothing_recorded_asks_nothing() -> None:
    session = Session({})
    session.note(effects_of(b"RESET ALL"))
    assert session.question() is None


def test_set_during_an_outstanding_question_is_asked_about_next() -> None:
    session = Session({})
    session.note(effects_of(b"SET a.b = 1"))
    first = session.question()
    session.note(effects_of(b"SET a.c = 1"))
    assert first is not None
    session.answered(first, [b"1"])
    second = session.question()
    assert second is not None
    assert second.names == ("a.c",)


def test_reset_all_during_an_outstanding_question_takes_back_what_that_is_about() -> None:
    session = Session({})
    session.note(effects_of(b"SET a.b = 1"))
    first = session.question()
    session.note(effects_of(b"RESET ALL"))
    assert first is not None
    session.answered(first, [b"1"])
    second = session.question()
    assert second is not None
    assert second.names == ("a.b",)
    session.answered(second, [b""])
    assert session.parameters == {}


def test_change_that_the_server_reports_is_recorded_without_a_question() -> None:
    session = Session({})
    session.needed(DEFAULTS)
    session.reported("timezone", b"UTC")
    session.reported("is_superuser", b"on")
    assert session.parameters == {}
    session.reported("timezone", b"CET")
    assert session.needed(DEFAULTS) == (("timezone", b"CET"),)
    session.reported("timezone", b"UTC")
    assert session.needed(DEFAULTS) == ()


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("CREATE TEMP TABLE t ()", Pin.TEMPORARY),
        ("SELECT pg_advisory_lock(1)", Pin.ADVISORY_LOCK),
        ("PREPARE p AS SELECT 1", Pin.PREPARE),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Pin.CURSOR),
    ],
)
def test_server_decides_whether_there_is_something_to_stay_for(text: str, pin: Pin) -> None:
    session = Session({})
    after(session, text, b"f")
    assert session.pins == frozenset()
    after(session, text, b"t")
    assert session.pins == {pin}


def test_pin_is_released_when_the_server_says_that_it_is_gone() -> None:
    session = Session({})
    session.note(effects_of(b"DROP TABLE t"))
    assert session.question() is None  # nothing pins, so there is nothing to ask
    after(session, "CREATE TEMP TABLE t ()", b"t")
    after(session, "DROP TABLE t", b"t")
    assert session.pins == {Pin.TEMPORARY}
    after(session, "DROP TABLE t", b"f")
    assert session.pins == frozenset()


def test_pin_that_nothing_can_release_stays() -> None:
    session = Session({})
    session.note(effects_of(b"LOAD 'x'"))
    session.note(Effects(ask=Ask.RELEASE))
    assert session.question() is None
    assert session.pins == {Pin.LOAD}


@pytest.mark.parametrize("values", [None, [], [b"t", b"t"]])
def test_without_an_answer_the_backend_stays(values: list[bytes | None] | None) -> None:
    session = Session({})
    session.note(effects_of(b"SET a.b = 1"))
    question = session.question()
    assert question is not None
    session.answered(question, values)
    assert session.pins == {Pin.UNSURE}


def test_more_parameters_than_are_worth_carrying_pin() -> None:
    session = Session({})
    for number in range(MAX_PARAMETERS):
        after(session, f"SET a.b{number} = 1", b"1")
    assert session.pins == frozenset()
    after(session, "SET a.c = 1", b"1")
    assert session.pins == {Pin.PARAMETER}


def test_sessions_in_which_texts_mean_the_same_have_the_same_fingerprint() -> None:
    plain = Session({}).fingerprint(DEFAULTS)
    assert Session({"application_name": "x", "TimeZone": "UTC", "a.b": "1"}).fingerprint(DEFAULTS) == plain
    german, again = Session({"DateStyle": "German"}), Session({"datestyle": "German"})
    assert german.fingerprint(DEFAULTS) == again.fingerprint(DEFAULTS) != plain


@pytest.mark.parametrize("text", ["SET LOCAL DateStyle = German", "SET DateStyle = German", "RESET DateStyle"])
def test_fingerprint_of_a_transaction_that_changes_meanings_is_its_own(text: str) -> None:
    session, other = Session({}), Session({})
    session.note(effects_of(text.encode()))
    other.note(effects_of(text.encode()))
    during = session.fingerprint(DEFAULTS)
    assert during == session.fingerprint(DEFAULTS)
    assert during != other.fingerprint(DEFAULTS)
    session.question()
    assert session.fingerprint(DEFAULTS) != during


def test_fingerprint_is_a_sessions_own_as_long_as_it_has_temporary_objects() -> None:
    session, other = Session({"DateStyle": "German"}), Session({"DateStyle": "German"})
    shared = session.fingerprint(DEFAULTS)
    session.note(effects_of(b"CREATE TEMP TABLE t ()"))
    other.note(effects_of(b"CREATE TEMP TABLE t ()"))
    during = session.fingerprint(DEFAULTS)
    assert during not in (shared, other.fingerprint(DEFAULTS))
    question = session.question()
    assert question is not None
    session.answered(question, [b"t"])
    after(session, "CREATE TEMP TABLE u ()", b"t")
    assert session.fingerprint(DEFAULTS) == during
    after(session, "DROP TABLE t, u", b"f")
    assert session.fingerprint(DEFAULTS) == shared


def test_harmless_parameters_do_not_change_a_transactions_fingerprint() -> None:
    session = Session({})
    plain = session.fingerprint(DEFAULTS)
    session.note(effects_of(b"SET statement_timeout = 1; SELECT set_config('app.user', 'x', true)"))
    assert session.fingerprint(DEFAULTS) == plain
