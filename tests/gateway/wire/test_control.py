"""What a statement does to its transaction, by its first words."""

import pytest

from sqlhttp_gateway.wire.control import Control, control_of, ends_transaction


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
        "/**/;--x\n;/**/ Rollback",
        "PREPARE TRANSACTION 'x'",
        "prepare /* a */ transaction 'x'",
        "prepare--\ntransaction 'x'",
        "rollback /* to a */ work",
    ],
)
def test_statement_that_would_end_a_transaction_is_seen_behind_blanks_and_comments(text: str) -> None:
    assert ends_transaction(text.encode())


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
        ";",
        "PREPARE a AS SELECT 1",
        "PREPARE transactions AS SELECT 1",
        "SAVEPOINT a",
        "COMMIT PREPARED 'x'",
        "ROLLBACK TO a",
        "rollback work to savepoint a",
    ],
)
def test_every_other_statement_is_left_to_postgres(text: str) -> None:
    assert not ends_transaction(text.encode())


@pytest.mark.parametrize(
    ("text", "control"),
    [
        ("BEGIN", Control.BEGIN),
        ("begin read write", Control.BEGIN),
        ("/**/START TRANSACTION ISOLATION LEVEL SERIALIZABLE", Control.BEGIN),
        ("START something", Control.NONE),
        ("SET TRANSACTION READ WRITE", Control.SET),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", Control.NONE),
        ("SET LOCAL transaction_read_only = off", Control.NONE),
        ("COMMIT AND CHAIN", Control.CHAIN),
        ("rollback transaction and chain", Control.CHAIN),
        ("END AND NO CHAIN", Control.END),
    ],
)
def test_each_kind_of_control_is_told_apart(text: str, control: Control) -> None:
    assert control_of(text.encode()) is control
