"""The header Idempotency-Key, and what a request is known by."""

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.idempotency.keys import ends_transaction, holder, key_from_header, known
from sqlhttp_gateway.model import Batch, Options, Statement, TransactionOptions

SECRET = b"s" * 32
DEFERRABLE = Options(transaction=TransactionOptions(deferrable=True))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"order-1", b"order-1"),
        (rb'"a \"b\" \\"', rb'a "b" \ '.strip()),
        (b'"half', b'"half'),
        (b"k" * 255, b"k" * 255),
    ],
)
def test_key_may_be_quoted_as_the_draft_has_it_or_bare(header: bytes, key: bytes) -> None:
    assert key_from_header(header) == key


@pytest.mark.parametrize("header", [b"", b'""', b"k" * 256, b'"' + b"k" * 256 + b'"', b"caf\xc3\xa9", b"a\tb"])
def test_key_that_is_empty_too_long_or_not_printable_is_refused(header: bytes) -> None:
    with pytest.raises(BadRequest, match="Idempotency-Key"):
        key_from_header(header)


def test_request_is_known_by_its_body_and_by_what_shapes_its_answer() -> None:
    first = known(b"k", b"{}", Options(), secret=SECRET, role="app", tenant="")
    assert known(b"k", b"{}", Options(), secret=SECRET, role="app", tenant="") == first
    others = [
        known(b"k", b"{ }", Options(), secret=SECRET, role="app", tenant=""),
        known(b"k", b"{}", Options(array_mode=True), secret=SECRET, role="app", tenant=""),
        known(
            b"k", b"{}", Options(transaction=TransactionOptions(deferrable=True)), secret=SECRET, role="app", tenant=""
        ),
    ]
    assert all(other.id == first.id and other.fingerprint != first.fingerprint for other in others)


def test_same_key_of_another_role_tenant_or_database_is_another_key() -> None:
    def id_of(key: bytes, role: str, tenant: str, secret: bytes = SECRET) -> bytes:
        return known(key, b"{}", Options(), secret=secret, role=role, tenant=tenant).id

    ids = [id_of(b"k", "a", ""), id_of(b"k", "b", ""), id_of(b"k", "a", "key:1"), id_of(b"k", "a", "", b"x" * 32)]
    ids += [id_of(b"k1", "a", "key:"), id_of(b"1k", "a", "key:"), id_of(b"k", "ak", ""), id_of(b"kk", "a", "")]
    assert len(set(ids)) == len(ids)


def test_parts_that_tell_callers_of_one_tenant_apart_make_other_keys() -> None:
    def id_of(*further: bytes, key: bytes = b"k") -> bytes:
        return known(key, b"{}", Options(), secret=SECRET, role="a", tenant="jwt:mine:", further=further).id

    ids = [id_of(), id_of(b"admin", b""), id_of(b"", b"admin"), id_of(b"admin"), id_of(b"", b""), id_of(b"", key=b"")]
    assert len(set(ids)) == len(ids)


def test_holder_of_a_token_without_a_subject_is_told_by_its_claims_and_stays_the_same_when_it_is_renewed() -> None:
    first = holder(b'{"user":"ann","exp":1,"iat":1,"nbf":1,"jti":"a"}')
    assert first == holder(b'{"exp":2,"iat":2,"jti":"b","user":"ann"}') != holder(b'{"user":"bob","exp":1}')
    assert holder(b'{"sub":5}') != holder(b'{"sub":6}')
    assert holder(b'{"sub":""}') != b""
    assert holder(b'{"sub":"ann","org":1}') == b"", "the tenant tells who it is"


def test_nothing_of_a_key_is_shown() -> None:
    assert repr(known(b"k", b"{}", Options(), secret=SECRET, role="app", tenant="")) == "Key()"


@pytest.mark.parametrize(
    "text",
    [
        *("COMMIT", " commit work", "END", "rollback", "-- a\nROLLBACK;", "/* a * b */ABORT"),
        *("PREPARE TRANSACTION 'x'", ";COMMIT", "/* a /* b */ c */ COMMIT", "COMMIT AND CHAIN"),
    ],
)
def test_statement_that_ends_the_transaction_is_seen(text: str) -> None:
    assert ends_transaction(Statement(text))
    assert ends_transaction(Batch((Statement("SELECT 1"), Statement(text))))


@pytest.mark.parametrize(
    "text",
    [
        "ROLLBACK TO a",
        "rollback work to savepoint a",
        "SAVEPOINT a",
        "SELECT 'COMMIT'",
        "PREPARE x AS SELECT 1",
        "ending",
    ],
)
def test_statement_that_does_not_end_it_passes(text: str) -> None:
    assert not ends_transaction(Statement(text))
