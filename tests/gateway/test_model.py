"""The nouns: how a transaction begins, and what a connection string shows of itself."""

from dataclasses import FrozenInstanceError
from itertools import product

import pytest

from sqlhttp_gateway import model
from sqlhttp_gateway.model import (
    Batch,
    Dsn,
    IsolationLevel,
    Options,
    PoolKey,
    Prologue,
    Statement,
    Target,
    TransactionOptions,
)
from tests.support.cluster import Cluster

SECRET = "hunter2"
DSN = Dsn("db.example", 5432, "app", "ada", SECRET.encode(), (("options", SECRET),))


@pytest.mark.parametrize(
    ("options", "statement"),
    [
        (TransactionOptions(), "START TRANSACTION"),
        (TransactionOptions(read_only=True), "START TRANSACTION READ ONLY"),
        (TransactionOptions(deferrable=True), "START TRANSACTION DEFERRABLE"),
        (
            TransactionOptions(IsolationLevel.REPEATABLE_READ),
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ),
        (
            TransactionOptions(IsolationLevel.SERIALIZABLE, read_only=True, deferrable=True),
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        ),
    ],
)
def test_transaction_begins_with_the_clauses_that_were_asked_for(options: TransactionOptions, statement: str) -> None:
    assert options.begin == statement


def test_postgres_begins_every_kind_of_transaction_as_asked(postgres: Cluster) -> None:
    kinds = [
        TransactionOptions(level, read_only=read_only, deferrable=deferrable)
        for level, read_only, deferrable in product([None, *IsolationLevel], [False, True], [False, True])
    ]
    show = (
        "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), "
        "current_setting('transaction_deferrable')"
    )
    script = "; ".join(f"{kind.begin}; {show}; ROLLBACK" for kind in kinds)
    found = [line for line in postgres.maintenance.psql(script).splitlines() if "|" in line]
    on = {False: "off", True: "on"}
    assert found == [
        "|".join(
            (
                kind.isolation_level.sql.lower() if kind.isolation_level else "read committed",
                on[kind.read_only],
                on[kind.deferrable],
            )
        )
        for kind in kinds
    ]


def test_isolation_levels_are_spelled_as_neon_does() -> None:
    assert list(IsolationLevel) == ["ReadUncommitted", "ReadCommitted", "RepeatableRead", "Serializable"]


@pytest.mark.parametrize("shown", [repr(DSN), str(DSN), f"{DSN}", f"{[DSN]}", "%r %s" % (DSN, DSN)])  # noqa: UP031 - so do logs
def test_password_of_a_connection_string_is_never_shown(shown: str) -> None:
    assert SECRET not in shown
    assert "ada@db.example:5432/app" in shown


def test_a_place_is_told_as_postgres_tells_it() -> None:
    assert Target("default", "db", 5433).place == "db:5433"
    for folder in ("/var/run/postgresql", "/var/run/postgresql/"):
        target = Target("default", folder, 5433)
        assert target.is_socket
        assert target.place == "/var/run/postgresql/.s.PGSQL.5433"


def test_pools_are_apart_by_target_database_and_role() -> None:
    keys = {PoolKey(target, database, role) for target, database, role in product(["a", "b"], ["a", "b"], ["a", "b"])}
    assert len(keys) == 8
    assert str(PoolKey("default", "app", "ada")) == "default/app/ada"


@pytest.mark.parametrize(
    "value",
    [
        Batch((Statement("SELECT 1"),)),
        TransactionOptions(),
        Options(),
        Prologue(()),
        DSN,
        Target("default", "db", 5432),
        PoolKey("default", "app", "ada"),
        model.ArrayType(23),
        model.Field("a", 0, 0, 23, 4, -1),
        Statement("SELECT 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nobody_can_change_what_others_hold(value: object) -> None:
    hash(value)
    names: tuple[str, ...] = getattr(value, "_fields", ()) or getattr(value, "__slots__", ())
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(value, names[0], None)
