"""What a transaction says, and when it is over."""

from typing import Any

import pytest

from sqlhttp import InterfaceError, TransactionLost, errors
from sqlhttp._interactive import OpenTransaction, begin_statement
from sqlhttp._line import Cut, Line
from sqlhttp._request import Statement, TransactionOptions
from tests.client.test_line import in_transaction, played
from tests.support.backend_bytes import PARSED, done, failed, ready

INSERT = Statement("insert into t values (1)")


@pytest.fixture
def line() -> Line:
    return in_transaction()


@pytest.fixture
def transaction(line: Line) -> OpenTransaction:
    return OpenTransaction(line)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (TransactionOptions(), "BEGIN"),
        (TransactionOptions(read_only=False, deferrable=False), "BEGIN"),
        (TransactionOptions("RepeatableRead"), "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (
            TransactionOptions("Serializable", read_only=True, deferrable=True),
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        ),
    ],
)
def test_begin_says_what_the_options_say(options: TransactionOptions, text: str) -> None:
    assert begin_statement(options) == Statement(text)


def test_an_isolation_level_is_one_of_four() -> None:
    wrong: Any = "serializable; drop table t"
    with pytest.raises(InterfaceError, match="ReadUncommitted, ReadCommitted, RepeatableRead, Serializable"):
        begin_statement(TransactionOptions(wrong))


def test_commit_ends_it(transaction: OpenTransaction) -> None:
    assert played(transaction.commit(), done("COMMIT")) is None
    assert transaction.is_over
    for steps in (transaction.run(INSERT), transaction.commit(), transaction.roll_back(), transaction.save()):
        with pytest.raises(InterfaceError, match="over"):
            next(steps)


def test_a_commit_that_postgres_made_a_rollback_is_an_error(transaction: OpenTransaction) -> None:
    first = played(transaction.run(INSERT), PARSED + failed("23505") + ready("E"))
    error = played(transaction.commit(), done("ROLLBACK"))
    assert isinstance(error, errors.InFailedSqlTransaction)
    assert error.__cause__ is first
    assert not error.may_have_run


def test_a_program_that_says_commit_itself_has_ended_it(transaction: OpenTransaction) -> None:
    played(transaction.run(Statement("commit")), done("COMMIT"))
    assert transaction.is_over


def test_a_loss_that_was_passed_over_comes_back_at_commit(transaction: OpenTransaction) -> None:
    lost = played(transaction.run(INSERT), Cut("gone"))
    assert isinstance(lost, TransactionLost)
    assert not transaction.is_over
    with pytest.raises(TransactionLost) as caught:
        next(transaction.commit())
    assert caught.value is lost


def test_savepoints_have_names_of_their_own(transaction: OpenTransaction) -> None:
    assert played(transaction.save(), done("SAVEPOINT", "T")) == "sqlhttp_1"
    assert played(transaction.save(), done("SAVEPOINT", "T")) == "sqlhttp_2"


def test_what_failed_since_a_savepoint_is_undone_and_told(line: Line, transaction: OpenTransaction) -> None:
    name = played(transaction.save(), done("SAVEPOINT", "T"))
    first = played(transaction.run(INSERT), PARSED + failed("22012") + ready("E"))
    back = done("ROLLBACK", "T")[:-6] + done("RELEASE", "T")
    error = played(transaction.release(name), back)
    assert isinstance(error, errors.InFailedSqlTransaction)
    assert error.__cause__ is first
    assert (line.status, transaction.is_over) == ("T", False)
    assert played(transaction.commit(), done("COMMIT")) is None


def test_releasing_and_undoing_leave_the_transaction_open(transaction: OpenTransaction) -> None:
    name = played(transaction.save(), done("SAVEPOINT", "T"))
    assert played(transaction.undo_and_keep(name), done("ROLLBACK", "T")) is None
    assert played(transaction.release(name), done("RELEASE", "T")) is None
    assert not transaction.is_over
