"""Which statements a grant allows, and in which transaction."""

import pytest

from sqlhttp_gateway.auth.allowed import check_statements, digest_of, ends_transaction
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import StatementRefused
from sqlhttp_gateway.model import Batch, Statement

LISTED = Grant("key:1", b"", statements=frozenset({digest_of("SELECT 1")}))
READER = Grant("key:1", b"", read_only=True)


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT 1;", "\nSELECT 1 ;\r\n"])
def test_listed_statement_runs_whatever_blanks_stand_around_it(text: str) -> None:
    check_statements(LISTED, Statement(text))


@pytest.mark.parametrize("text", ["select 1", "SELECT 1 -- x", "SELECT  1", "SELECT 2", "SELECT 1; SELECT 2", ""])
def test_every_other_text_is_refused(text: str) -> None:
    with pytest.raises(StatementRefused, match="not on the list"):
        check_statements(LISTED, Statement(text))


def test_batch_is_refused_for_one_statement_that_is_not_listed() -> None:
    with pytest.raises(StatementRefused):
        check_statements(LISTED, Batch((Statement("SELECT 1"), Statement("SELECT 2"))))


def test_grant_without_a_list_allows_anything() -> None:
    check_statements(Grant("key:1", b""), Statement("COMMIT"))


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT",
        "commit and chain",
        "  \n\t END",
        ";;COMMIT",
        "-- a\nROLLBACK",
        "--\rABORT",
        "/* a */commit",
        "/* /* nested */ */ commit",
        "/**/;--x\n;/**/ Rollback to a",
        "PREPARE TRANSACTION 'x'",
        "prepare /* a */ transaction 'x'",
        "prepare--\ntransaction 'x'",
    ],
)
def test_statement_that_would_end_a_transaction_is_seen_behind_blanks_and_comments(text: str) -> None:
    assert ends_transaction(text)
    with pytest.raises(StatementRefused, match="read-only"):
        check_statements(READER, Statement(text))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'commit'",
        "SELECT 1 -- \ncommit",
        "commitment",
        "endless",
        "/* commit",
        "-- commit",
        "",
        "PREPARE a AS SELECT 1",
        "PREPARE transactions AS SELECT 1",
        "SAVEPOINT a",
    ],
)
def test_every_other_statement_is_left_to_postgres(text: str) -> None:
    assert not ends_transaction(text)
