"""Which requests are plain, and which mean more than one statement on a connection."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.model import Allowance, Batch, Statement
from sqlhttp_gateway.neon.headers import REQUEST_HEADERS
from sqlhttp_gateway.sql.plain import PLAIN_HEADERS, is_plain_caller, plain_options, plain_request

PLAIN = {b"neon-connection-string": b"postgres://a@b/c", b"neon-raw-text-output": b"true"}


@pytest.mark.parametrize("name", sorted(set(REQUEST_HEADERS) | {"Origin"}))
def test_head_with_a_header_that_means_more_is_not_plain(name: str) -> None:
    header = name.lower().encode()
    options = plain_options({**PLAIN, header: PLAIN.get(header, b"x")})
    assert (options is not None) == (header in PLAIN_HEADERS)


def test_headers_that_mean_nothing_are_passed_over() -> None:
    assert plain_options({**PLAIN, b"user-agent": b"any", b"accept": b"*/*"}) is not None


@pytest.mark.parametrize("missing", PLAIN)
def test_head_that_wants_typed_values_or_names_nobody_is_not_plain(missing: bytes) -> None:
    assert plain_options({name: value for name, value in PLAIN.items() if name != missing}) is None


def test_wish_for_the_cache_may_stand_in_the_connection_string() -> None:
    assert plain_options({**PLAIN, b"neon-connection-string": b"postgres://a@b/c?cache_ttl=60"}) is None


def callers() -> Iterator[tuple[str, Caller, bool]]:
    def caller(*, is_pooler: bool = False, group: object = None, **more: Any) -> Caller:
        pool = cast(Any, SimpleNamespace(upstream=SimpleNamespace(is_pooler=is_pooler, group=group)))
        return Caller("default", "main", "app", pool, 0.0, **more)

    yield "a role with its own password", caller(), True
    yield "bounds of a key", caller(grant=object()), False
    yield "an allowance", caller(allowance=Allowance()), False
    yield "a pooler behind it", caller(is_pooler=True), False
    yield "several servers", caller(group=object()), False


@pytest.mark.parametrize(("name", "caller", "is_plain"), list(callers()), ids=[name for name, *_ in callers()])
def test_caller_is_plain_where_nothing_bounds_it(name: str, caller: Caller, is_plain: bool) -> None:
    assert is_plain_caller(caller) is is_plain


def test_body_is_plain_with_statements_that_end_as_a_whole() -> None:
    assert plain_request(b'{"query":"SELECT 1"}') == Statement("SELECT 1")
    assert plain_request(b'{"queries":[{"query":"SELECT 1"}]}') == Batch((Statement("SELECT 1"),))
    for body in (b"{", b'{"queries":[{"query":"CALL p()"}]}', b'{"query":"CALL p()"}', b'{"query":"COMMIT"}', b"{}"):
        assert plain_request(body) is None, body
