"""The DB-API module on a real database: the public compliance kit, and what people use it for."""

import unittest
from typing import Any

import pytest

from sqlhttp import dbapi
from tests.support.cluster import Database
from tests.support.gateway import Gateway

dbapi20 = pytest.importorskip("dbapi20", reason="the package dbapi-compliance is not installed")

DOES_NOT_APPLY = {
    "test_nextset": "PEP 249 has it optional, and a request has one result",
    "test_setoutputsize": "the kit has no test of its own and asks the driver to write one",
}
APPLIES = [
    name
    for name in unittest.defaultTestLoader.getTestCaseNames(dbapi20.DatabaseAPI20Test)
    if name not in DOES_NOT_APPLY
]


@pytest.mark.parametrize("name", APPLIES)
def test_compliance_kit(name: str, gateway: Gateway, database: Database) -> None:
    class Case(dbapi20.DatabaseAPI20Test):  # type: ignore[misc, name-defined]  # an untyped module
        driver = dbapi
        connect_args = (database.url,)
        connect_kw_args = {"endpoint": gateway.sql}  # noqa: RUF012  the kit's own attribute

    outcome = unittest.TestResult()
    Case(name).run(outcome)
    assert outcome.testsRun == 1
    assert not outcome.skipped
    for _, traceback in outcome.failures + outcome.errors:
        pytest.fail(traceback)


def test_the_kit_is_whole() -> None:
    assert len(APPLIES) > 25


@pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy:UserWarning")
def test_pandas_reads_a_query(gateway: Gateway, database: Database) -> None:
    pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
    database.psql("create table t (id int, name text); insert into t values (1, 'ada'), (2, null)")
    with dbapi.connect(database.url, endpoint=gateway.sql) as connection:
        frame = pandas.read_sql("select * from t where id < %s order by id", connection, params=[9])
        assert frame["id"].tolist() == [1, 2]
        assert frame["name"].tolist()[0] == "ada"
        with pytest.raises((dbapi.ProgrammingError, pandas.errors.DatabaseError), match="does not exist"):
            pandas.read_sql("select * from nowhere", connection)


def test_executemany_is_one_transaction(gateway: Gateway, database: Database) -> None:
    database.psql("create table t (id int primary key)")
    with dbapi.connect(database.url, endpoint=gateway.sql) as connection:
        cursor = connection.cursor()
        with pytest.raises(dbapi.IntegrityError):
            cursor.executemany("insert into t values (%s)", [[1], [2], [1]])
        assert cursor.execute("select count(*) from t").fetchone() == (0,)
        assert cursor.executemany("insert into t values (%(id)s)", [{"id": 1}, {"id": 2}]).rowcount == 2
