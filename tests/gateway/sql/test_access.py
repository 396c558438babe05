"""A caller's way to a connection: what runs in front, whose limits hold, what a refused password means."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.errors import PasswordFailed, TargetMisconfigured
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.model import Allowance, Batch, Options, PoolKey, Statement, TransactionOptions
from sqlhttp_gateway.sql.access import Access, Ways, reads_only

BACKEND = cast(Any, None)
STATEMENT = Statement("SELECT 1")
READING, WRITING = Options(transaction=TransactionOptions(read_only=True)), Options()


def access(**more: Any) -> Access:
    pool = cast(Any, SimpleNamespace(key=PoolKey("default", "main", "app"), upstream=SimpleNamespace(group=None)))
    return Access(pool, lambda: b"secret", Caller("default", "main", "app", pool, 0.0), **more)


def test_nothing_runs_in_front_of_those_with_a_password_of_their_own() -> None:
    assert access().prologue_on(BACKEND) is None


def test_reading_access_is_read_only_from_when_that_is_known_to_be_wanted() -> None:
    wanted = False
    some = access().reading(lambda: wanted)
    assert some.prologue_on(BACKEND) is None
    wanted = True
    prologue = some.prologue_on(BACKEND)
    assert prologue is not None
    assert prologue.read_only


def test_limits_are_the_lower_of_the_requests_and_the_tenants() -> None:
    limits = Limits(max_bytes=100, statement_timeout=10)
    assert access().within(limits) is limits
    quota = cast(Any, SimpleNamespace(allowance=Allowance(statement_timeout=5, max_response_bytes=200)))
    assert access(quota=quota).within(limits) == Limits(max_bytes=100, statement_timeout=5)


def test_refused_password_is_the_callers_fault_only_if_they_have_shown_one() -> None:
    assert isinstance(access().refused(), PasswordFailed)
    assert isinstance(access(grant=cast(Any, object())).refused(), TargetMisconfigured)


@pytest.mark.parametrize(
    ("request_", "options", "grant", "expected"),
    [
        (STATEMENT, WRITING, None, False),
        (STATEMENT, READING, None, False),  # the option is the batch's
        (Batch((STATEMENT,)), READING, None, True),
        (STATEMENT, Options(read_only=True), None, True),
        (STATEMENT, WRITING, SimpleNamespace(read_only=True), True),
        (STATEMENT, WRITING, SimpleNamespace(read_only=False), False),
    ],
)
def test_request_reads_only_where_postgres_lets_it_change_nothing(
    request_: Statement | Batch, options: Options, grant: Any, *, expected: bool
) -> None:
    assert reads_only(request_, options, grant) is expected


async def test_way_of_a_role_takes_its_password_from_the_connection_string_when_it_is_needed() -> None:
    some = access()
    ways = Ways(cast(Any, None), cast(Any, None))
    found = await ways.of(some.caller, b"postgres://app:hunter2@host/main", None)
    assert (found.pool, found.caller, found.grant) == (some.pool, some.caller, None)
    assert found.password() == b"hunter2"
