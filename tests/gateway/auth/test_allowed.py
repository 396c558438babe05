"""Which statements a grant allows, and in which transaction."""

import pytest

from sqlhttp_gateway.auth.allowed import check_statements, digest_of
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import StatementRefused
from sqlhttp_gateway.model import Batch, Statement

LISTED = Grant("key:1", b"", statements=frozenset({digest_of("SELECT 1")}))
READER = Grant("key:1", b"", read_only=True)


def allows(grant: Grant, text: str) -> bool:
    """Whether a program with this grant may send the statement, alone and in a batch; both have to be said alike."""
    said = set()
    for request in (Statement(text), Batch((Statement(text),))):
        try:
            check_statements(grant, request)
        except StatementRefused:
            said.add(False)
        else:
            said.add(True)
    [is_allowed] = said
    return is_allowed


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT 1;", "\nSELECT 1 ;\r\n"])
def test_listed_statement_runs_whatever_blanks_stand_around_it(text: str) -> None:
    assert allows(LISTED, text)


@pytest.mark.parametrize("text", ["select 1", "SELECT 1 -- x", "SELECT  1", "SELECT 2", "SELECT 1; SELECT 2", ""])
def test_every_other_text_is_refused(text: str) -> None:
    with pytest.raises(StatementRefused, match="not on the list"):
        check_statements(LISTED, Statement(text))


def test_batch_is_refused_for_one_statement_that_is_not_listed() -> None:
    with pytest.raises(StatementRefused):
        check_statements(LISTED, Batch((Statement("SELECT 1"), Statement("SELECT 2"))))


def test_grant_without_a_list_allows_anything() -> None:
    assert allows(Grant("key:1", b""), "COMMIT")


@pytest.mark.parametrize("text", ["COMMIT", "/* a */ rollback", "PREPARE TRANSACTION 'x'"])
def test_read_only_grant_cannot_end_the_transaction(text: str) -> None:
    with pytest.raises(StatementRefused, match="read-only"):
        check_statements(READER, Statement(text))


def test_read_only_grant_may_go_back_to_a_savepoint() -> None:
    assert allows(READER, "ROLLBACK TO a")
