"""Errors: their tree, their text, and the class of each SQLSTATE."""

import copy
import pickle

import pytest

import sqlhttp
from sqlhttp import DatabaseError, IntegrityError, InterfaceError, NeonDbError, OutcomeUnknown, errors
from sqlhttp._errors import caret


def all_classes(cls: type[NeonDbError]) -> set[type[NeonDbError]]:
    return {cls}.union(*(all_classes(sub) for sub in cls.__subclasses__()))


def test_the_text_shows_message_sqlstate_and_place() -> None:
    error = errors.UndefinedColumn('column "nme" does not exist', code="42703", position="8", hint='Perhaps "name".')
    error.query = "select nme\nfrom users"
    assert str(error).splitlines() == [
        'column "nme" does not exist (SQLSTATE 42703)',
        "LINE 1: select nme",
        "               ^",
        'HINT: Perhaps "name".',
    ]


def test_an_error_without_a_code_is_its_message() -> None:
    assert str(NeonDbError("no connection")) == "no connection"
    assert NeonDbError("no connection").sqlstate is None
    assert NeonDbError("m", code="").sqlstate is None


def test_the_place_in_a_functions_own_query_is_shown() -> None:
    error = NeonDbError("m", code="42601", internal_query="selct 1", internal_position="1")
    assert str(error).splitlines()[1:] == ["LINE 1: selct 1", "        ^"]


@pytest.mark.parametrize(
    ("query", "position", "lines"),
    [
        ("select 1\n  from\tt\n where x", "12", ["LINE 2:   from t", "          ^"]),
        ("a\r\nb", "2", ["LINE 1: a", "         ^"]),
        ("abc", "4", ["LINE 1: abc", "           ^"]),  # the end of input
        ("abc", "5", []),
        ("abc", "0", []),
        ("abc", "x", []),
        ("ä€😀x", "4", ["LINE 1: ä€😀x", "           ^"]),  # positions count characters, not bytes
    ],
)
def test_the_caret_stands_below_the_position(query: str, position: str, lines: list[str]) -> None:
    assert caret(query, position) == lines


def test_a_long_line_is_cut_around_the_caret() -> None:
    line, mark = caret("x" * 500 + "Y" + "z" * 500, "501")
    assert len(line) < 100
    assert line[mark.index("^")] == "Y"
    assert line.startswith("LINE 1: ...")
    assert line.endswith("...")


@pytest.mark.parametrize(
    ("sqlstate", "name", "base"),
    [
        ("23505", "UniqueViolation", "IntegrityError"),
        ("23000", "IntegrityError", "DatabaseError"),
        ("42P01", "UndefinedTable", "ProgrammingError"),
        ("22P02", "InvalidTextRepresentation", "DataError"),
        ("40001", "SerializationFailure", "OperationalError"),
        ("0A000", "FeatureNotSupported", "NotSupportedError"),
        ("XX000", "InternalError_", "InternalError"),
        ("P0002", "NoDataFound", "ProgrammingError"),
        ("ZZZZZ", "DatabaseError", "NeonDbError"),
    ],
)
def test_a_sqlstate_has_its_class(sqlstate: str, name: str, base: str) -> None:
    cls = errors.class_of(sqlstate)
    assert (cls.__name__, cls.__mro__[1].__name__) == (name, base)


def test_every_named_class_is_what_its_sqlstate_gives_and_says_so() -> None:
    for sqlstate, cls in errors._NAMED.items():
        assert errors.class_of(sqlstate) is cls
        assert issubclass(cls, errors._CLASSES[sqlstate[:2]]), sqlstate
        assert (cls.__doc__ or "").startswith(f"{sqlstate}: ")
        assert getattr(errors, cls.__name__) is cls


def test_one_except_catches_all_and_dbapi_catches_its_own() -> None:
    assert issubclass(errors.UniqueViolation, IntegrityError)
    assert issubclass(IntegrityError, DatabaseError)
    assert issubclass(DatabaseError, NeonDbError)
    assert issubclass(InterfaceError, NeonDbError)
    assert not issubclass(InterfaceError, DatabaseError)  # PEP 249


def test_a_class_says_whether_the_statement_may_have_run() -> None:
    may = {cls.__name__ for cls in all_classes(NeonDbError) if cls.may_have_run}
    assert may == {"OutcomeUnknown", "ConnectionLost", "ReplyCut", "RequestTimeout", "ProtocolError"}
    retryable = {cls.__name__ for cls in all_classes(NeonDbError) if cls.retryable}
    assert retryable == {
        "NotSent",
        "ConnectFailed",
        "ConnectTimeout",
        "SendFailed",
        "Refused",
        "TransactionLost",
        "KeyInFlight",
    }
    assert issubclass(sqlhttp.RequestTimeout, OutcomeUnknown)


@pytest.mark.parametrize("cls", sorted(all_classes(NeonDbError), key=str))
def test_errors_survive_pickling_and_copying(cls: type[NeonDbError]) -> None:
    error = cls("m", code="12345", detail="d", data_type="t")
    error.may_have_run, error.query, error.attempts = True, "select 1", 3
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.args == ("m",)


def test_the_cause_is_the_source_error() -> None:
    error = NeonDbError("m")
    error.__cause__ = OSError("reset")
    assert error.source_error is error.__cause__
