"""Which statements may be left out without what follows meaning another thing."""

import pytest

from sqlhttp_gateway.wire.alone import stands_alone


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN",
        "  /* first */ start transaction isolation level serializable",
        "SELECT 1; BEGIN",
        "BEGIN; INSERT INTO t VALUES (1)",
        "COMMIT AND CHAIN",
        "SET ROLE careful",
        "SET search_path = other",
        "SELECT set_config('app.user', '7', false)",
        "SELECT pg_advisory_lock(1)",
        "CREATE TEMP TABLE t (n int)",
        "LISTEN changes",
        "PREPARE p AS SELECT 1",
    ],
)
def test_what_begins_a_transaction_or_changes_the_session_does_not_stand_alone(text: str) -> None:
    assert not stands_alone(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1",
        "INSERT INTO t VALUES ('BEGIN; SET ROLE x')",
        "UPDATE t SET begin = 1; DELETE FROM t",
        "COMMIT",
        "ROLLBACK",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC; SELECT 1; END",
    ],
)
def test_what_leaves_nothing_but_its_rows_stands_alone(text: str) -> None:
    assert stands_alone(text.encode())
