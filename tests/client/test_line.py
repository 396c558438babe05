"""What the end of a connection, or of time, means for what was under way. No connection is needed for that."""

from typing import Any

import pytest

from sqlhttp import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    InterfaceError,
    NeonDbError,
    Refused,
    ReplyCut,
    RequestTimeout,
    SendFailed,
    TransactionLost,
    errors,
)
from sqlhttp._line import Cut, Line, Steps, TimedOut
from sqlhttp._request import Statement
from tests.support.backend_bytes import (
    BOUND,
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

BEGIN, COMMIT, INSERT = Statement("begin"), Statement("/* now */ COMMIT"), Statement("insert into t values (1)")


def played(steps: Steps[Any], *comes: bytes | Exception) -> Any:
    """What the steps return or raise when these things come, one after the other."""
    left = list(comes)
    try:
        next(steps)
        while True:
            coming = left.pop(0)
            if isinstance(coming, Exception):
                steps.throw(coming)
            else:
                steps.send(coming)
    except StopIteration as over:
        assert not left
        return over.value
    except NeonDbError as error:
        assert not left
        return error


def idle() -> Line:
    line = Line()
    played(line.log_in({"user": "me"}, b"secret"), GREETING)
    return line


def in_transaction() -> Line:
    line = idle()
    played(line.run(BEGIN), done("BEGIN", "T"))
    return line


def test_log_in_and_first_statements_are_answered_together() -> None:
    line = Line()
    answers = played(line.log_in({"user": "me"}, b"secret", [BEGIN]), GREETING[:20], GREETING[20:], done("BEGIN", "T"))
    assert [answer["command"] for answer in answers] == ["BEGIN"]
    assert line.is_usable
    assert line.status == "T"


def test_an_error_is_postgress_and_the_line_goes_on() -> None:
    line = idle()
    error = played(line.run(INSERT), PARSED + failed("23505", position="13") + ready())
    assert isinstance(error, errors.UniqueViolation)
    assert error.query == INSERT.text
    assert not error.may_have_run
    assert line.is_usable


@pytest.mark.parametrize(
    ("comes", "kind"),
    [([Cut("gone")], ConnectFailed), ([TimedOut()], ConnectTimeout), ([GREETING, Cut("gone")], ConnectFailed)],
)
def test_nothing_ran_before_the_log_in_is_over(comes: list[Any], kind: type[NeonDbError]) -> None:
    line = Line()
    error = played(line.log_in({"user": "me"}, b"secret", [BEGIN]), *comes)
    assert type(error) is kind
    assert not line.is_usable


@pytest.mark.parametrize(
    ("code", "kind"),
    [("53300", Refused), ("57P01", Refused), ("57P03", Refused), ("28P01", errors.InvalidPassword)],
)
@pytest.mark.parametrize("before", [b"", GREETING])
def test_a_refusal_at_the_door_says_whether_to_come_again(code: str, kind: type[NeonDbError], before: bytes) -> None:
    said = failed(code, "no", severity="FATAL")
    error = played(Line().log_in({"user": "me"}, b"secret", [BEGIN]), before + said, Cut("closed"))
    assert type(error) is kind
    assert error.sqlstate == code
    assert not error.may_have_run


@pytest.mark.parametrize(
    ("code", "kind"),
    [("53300", Refused), ("57P03", Refused), ("57014", errors.QueryCanceled), ("42501", errors.InsufficientPrivilege)],
)
def test_a_begin_for_which_there_is_no_backend_is_refused_and_the_line_goes_on(
    code: str, kind: type[NeonDbError]
) -> None:
    """The gateway lets in at once and waits for a backend only then."""
    line = Line()
    error = played(line.log_in({"user": "me"}, b"secret", [BEGIN]), GREETING + failed(code, "no") + ready("I"))
    assert type(error) is kind
    assert error.sqlstate == code
    assert not error.may_have_run
    assert line.is_usable


def test_a_statement_that_postgres_has_no_room_for_is_not_a_refusal_of_the_gateway() -> None:
    error = played(in_transaction().run(INSERT), PARSED + failed("53100", "no space left on device") + ready("E"))
    assert type(error) is errors.DiskFull


@pytest.mark.parametrize("loss", [Cut("gone"), Cut("gone", sent=False), TimedOut()])
def test_a_transaction_is_lost_with_its_connection(loss: Exception) -> None:
    line = in_transaction()
    error = played(line.run(INSERT), loss)
    assert type(error) is TransactionLost
    assert not error.may_have_run
    assert not line.is_usable
    with pytest.raises(InterfaceError):
        next(line.run(INSERT))


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (Cut("gone"), ConnectionLost),
        (Cut("gone", sent=False), TransactionLost),
        (TimedOut(), RequestTimeout),
    ],
)
@pytest.mark.parametrize("ends", [COMMIT, Statement("end"), Statement("prepare transaction 'a'")])
def test_only_a_commit_that_was_sent_leaves_doubt(loss: Exception, kind: type[NeonDbError], ends: Statement) -> None:
    error = played(in_transaction().run(ends), loss)
    assert type(error) is kind
    assert error.may_have_run is (kind is not TransactionLost)


def test_a_commit_that_was_confirmed_has_happened() -> None:
    line = in_transaction()
    [answer] = played(line.run(COMMIT), PARSED + BOUND + NO_DATA + completed("COMMIT"), Cut("gone"))
    assert answer["command"] == "COMMIT"
    assert not line.is_usable


@pytest.mark.parametrize(
    ("comes", "kind"),
    [
        ([Cut("gone")], ConnectionLost),
        ([Cut("gone", sent=False)], SendFailed),
        ([PARSED, Cut("gone")], ReplyCut),
        ([PARSED + BOUND + NO_DATA + completed("INSERT 0 1"), Cut("gone")], ReplyCut),
        ([TimedOut()], RequestTimeout),
    ],
)
def test_a_statement_that_commits_by_itself_may_have_run(comes: list[Any], kind: type[NeonDbError]) -> None:
    error = played(idle().run(INSERT), *comes)
    assert type(error) is kind
    assert error.may_have_run is (kind is not SendFailed)


@pytest.mark.parametrize(
    ("statement", "code", "may"),
    [
        (INSERT, "57P01", False),
        (INSERT, "08006", False),
        (COMMIT, "57P01", True),
        (COMMIT, "25P04", True),
        (COMMIT, "25P03", False),
        (INSERT, "25P03", False),
    ],
)
def test_the_servers_last_word_is_the_error(statement: Statement, code: str, may: bool) -> None:
    error = played(in_transaction().run(statement), failed(code, severity="FATAL"), Cut("closed"))
    assert error.sqlstate == code
    assert error.may_have_run is may


@pytest.mark.parametrize(
    ("code", "sent", "may"),
    [
        ("57P01", True, True),
        ("25P04", True, True),
        ("53400", True, True),
        ("57P05", True, False),
        ("57P01", False, False),
    ],
)
def test_a_statement_that_commits_by_itself_may_be_done_whatever_the_last_word_is(
    code: str, sent: bool, may: bool
) -> None:
    error = played(idle().run(INSERT), failed(code, severity="FATAL"), Cut("closed", sent=sent))
    assert error.sqlstate == code
    assert error.may_have_run is may


@pytest.mark.parametrize(("status", "may"), [("I", True), ("T", True), ("E", False)])
def test_a_copy_is_refused_and_what_it_has_written_by_then_is_told(status: str, may: bool) -> None:
    """`COPY (INSERT …) TO STDOUT` has run when the client sees that it is one."""
    line = idle() if status == "I" else in_transaction()
    ends = failed("22012") if status == "E" else message(b"c") + completed("COPY 1")
    copied = PARSED + BOUND + NO_DATA + message(b"H", b"\0\0\0") + message(b"d", b"1\n") + ends + ready(status)
    error = played(line.run(Statement("copy (insert into t values (1) returning 1) to stdout")), copied)
    assert (error.sqlstate, error.may_have_run) == ("0A000", may)
    assert not played(line.run(INSERT), failed("23505") + ready(status)).may_have_run  # and only of that one


@pytest.mark.parametrize(
    ("text", "status", "may"), [("call p()", "I", True), ("call p()", "E", False), ("a", "I", False)]
)
def test_a_procedure_that_fails_may_have_committed_a_part(text: str, status: str, may: bool) -> None:
    error = played(idle().run(Statement(text)), failed("40001") + ready(status))
    assert (error.sqlstate, error.may_have_run) == ("40001", may)


def test_waiting_ends_with_a_notification_or_with_time() -> None:
    line = idle()
    assert played(line.wait(), notified("a", "x")[:7], notified("a", "x")[7:]).payload == "x"
    assert played(line.wait(), TimedOut()) is None
    assert played(line.run(INSERT), notified("b") + done("INSERT 0 1"))
    waiting = line.wait()
    with pytest.raises(StopIteration) as over:
        next(waiting)
    assert over.value.value.channel == "b"


def test_notifications_that_nobody_waits_for_are_not_kept() -> None:
    """A session that has said LISTEN itself lives for long, and has no way to ask for them."""
    line = idle()
    for _ in range(3):
        played(line.run(INSERT), notified("jobs", "a") + done("INSERT 0 1") + notified("jobs", "b"))
    assert len(line._conversation.notifications) == 2


def test_waiting_on_a_connection_that_ends_says_so() -> None:
    line = idle()
    assert type(played(line.wait(), Cut("gone"))) is ConnectionLost
    assert not line.is_usable
    with pytest.raises(InterfaceError):
        next(line.wait())
    assert played(idle().wait(), failed("57P01", severity="FATAL"), Cut("closed")).sqlstate == "57P01"


def test_rows_arrive_in_pieces() -> None:
    answer = selected([("a", 23)], ["1"], ["2"])
    [found] = played(idle().run(Statement("select a from t")), answer[:30], answer[30:])
    assert found["rows"] == [["1"], ["2"]]
