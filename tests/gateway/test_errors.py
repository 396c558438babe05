"""The tree of errors: each can be told on every wire, and none promises what it cannot keep."""

import inspect
import re
from http import HTTPStatus
from pathlib import Path

import pytest

import sqlhttp_gateway
from sqlhttp_gateway import errors
from sqlhttp_gateway.errors import (
    ConfigurationError,
    DatabaseMissing,
    GatewayError,
    HasRun,
    PostgresError,
    TargetOverloaded,
)

TREE = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, GatewayError) and kind.__module__ == errors.__name__
]
KINDS = {"client", "auth", "limit", "pool", "backend", "gateway", "postgres"}
DEPLOYED = Path(sqlhttp_gateway.__file__).parent


def name(kind: type) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", TREE, ids=name)
def test_every_error_can_be_told_over_http_and_over_the_wire(kind: type[GatewayError]) -> None:
    assert 400 <= HTTPStatus(kind.status) < 600
    assert re.fullmatch(r"[0-9A-Z]{5}", kind.sqlstate), kind.sqlstate
    assert kind.sqlstate[:2] not in {"00", "01", "02"}, "these are successes, warnings and no data"
    assert kind.kind in KINDS


@pytest.mark.parametrize("kind", TREE, ids=name)
def test_every_error_says_its_situation_in_a_sentence(kind: type[GatewayError]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != GatewayError.__doc__ or kind is GatewayError
    assert kind.__doc__.strip().split("\n")[0].endswith(".")


@pytest.mark.parametrize("kind", TREE, ids=name)
def test_what_may_have_run_is_never_called_retryable(kind: type[GatewayError]) -> None:
    """A program that tries again by itself would do it twice."""
    assert not (kind.retryable and kind.ran is not HasRun.NO)


@pytest.mark.parametrize("kind", TREE, ids=name)
def test_service_unavailable_is_what_may_succeed_later(kind: type[GatewayError]) -> None:
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        assert kind.retryable


@pytest.mark.parametrize("kind", [*TREE, ConfigurationError], ids=name)
def test_every_error_is_used_somewhere(kind: type[Exception]) -> None:
    used = re.compile(rf"\b{kind.__name__}\b")
    places = [path for path in DEPLOYED.rglob("*.py") if path.name != "errors.py"]
    assert any(used.search(path.read_text()) for path in places)


def test_error_has_its_message_its_hint_and_its_delay() -> None:
    error = errors.WaitTimeout("no connection within 5 s", hint="Raise pool.max_size.", retry_after=2)
    assert (str(error), error.message) == ("no connection within 5 s", "no connection within 5 s")
    assert (error.hint, error.retry_after) == ("Raise pool.max_size.", 2)
    plain = GatewayError("so")
    assert (plain.hint, plain.retry_after) == (None, None)


def test_error_of_postgres_is_kept_whole() -> None:
    fields = {"S": "ERROR", "C": "23505", "M": "duplicate key", "D": "Key (id)=(1)", "H": "try 2", "n": "t_pkey"}
    error = PostgresError(fields)
    assert error.fields == fields
    assert (error.code, error.message, error.hint) == ("23505", "duplicate key", "try 2")


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_error_that_ends_the_connection_says_nothing_of_what_was_committed_before_it(severity: str) -> None:
    assert PostgresError({"V": severity, "C": "58030"}).may_have_run
    assert not PostgresError({"V": "ERROR", "C": "58030"}).may_have_run
    assert not TargetOverloaded({"V": severity, "C": "57P03"}).may_have_run, "nothing is sent before the log-in"
    assert not DatabaseMissing({"V": severity, "C": "3D000"}).may_have_run


def test_error_of_postgres_that_lacks_its_fields_is_still_an_error() -> None:
    error = PostgresError({})
    assert (error.code, error.message, error.hint) == ("", "", None)


def test_postgres_without_room_is_worth_another_try_in_a_second() -> None:
    error = TargetOverloaded({"C": "53300", "M": "sorry, too many clients already"})
    assert (error.status, error.retryable, error.retry_after) == (503, True, 1)
    assert error.code == "53300"


def test_configuration_error_is_never_the_answer_to_a_request() -> None:
    assert not issubclass(ConfigurationError, GatewayError)
