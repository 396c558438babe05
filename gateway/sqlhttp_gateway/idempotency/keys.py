"""The header `Idempotency-Key`, and what a key and a request are known by in the table.

The name and the rules are those of the IETF's draft "The Idempotency-Key HTTP Header Field": the same key with another
request is an error. Nothing here knows of Postgres.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import Batch, Options, Statement
from sqlhttp_gateway.wire import control

MAX_KEY = 255
"""Characters of a key, as with Stripe."""
TAG_BYTES = 8
_KEY = re.compile(rb"[\x20-\x7e]+")
_PASSING = frozenset({"exp", "nbf", "iat", "jti"})
"""Claims that are others in each token of one holder (RFC 7519, 4.1)."""
_QUOTED = re.compile(rb'"((?:[^"\\]|\\["\\])*)"')


@dataclass(frozen=True, slots=True)
class Key:
    """What a key and its request are known by. `repr` shows nothing that others could use."""

    id: bytes = field(repr=False)
    """The key as the table has it: 32 bytes that only the gateway can compute."""
    fingerprint: bytes = field(repr=False)
    """What tells this request from another with the same key."""
    tag: bytes = field(default=b"", repr=False)
    """By which the database knows that `id` was made with the secret that it has."""


def key_from_header(value: bytes) -> bytes:
    """The key: a quoted string, as the draft has it, or the same without quotes, as most programs send it.

    Raises:
        BadRequest: it is empty, too long, or has other characters than printable ASCII.
    """
    quoted = _QUOTED.fullmatch(value)
    key = re.sub(rb"\\(.)", rb"\1", quoted[1]) if quoted else value
    if not _KEY.fullmatch(key):
        raise BadRequest("the header Idempotency-Key must be printable ASCII, and not empty")
    if len(key) > MAX_KEY:
        raise BadRequest(f"the header Idempotency-Key has {len(key)} characters (max is {MAX_KEY})")
    return key


def holder(claims: bytes) -> bytes:
    """What tells holders of tokens apart whose tenant does not: all that such claims say, if they name no subject.

    A token that is only renewed is the same holder's, or a write that is sent again with it would run twice.
    """
    said = orjson.loads(claims)
    if isinstance(said.get("sub"), str) and said["sub"]:
        return b""
    return orjson.dumps({name: said[name] for name in said.keys() - _PASSING}, option=orjson.OPT_SORT_KEYS)


def known(
    key: bytes,
    body: bytes,
    options: Options,
    *,
    secret: bytes,
    role: str,
    tenant: str,
    further: Sequence[bytes] = (),
) -> Key:
    """What a request with `key` is known by. Keys of different roles and tenants never meet.

    `further` are parts by which callers are told apart who share both.
    """
    parts = (role.encode(), tenant.encode(), *further, key)
    known_by = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    how = repr((options.raw_text, options.array_mode, options.transaction)).encode()
    return Key(
        id=hmac.new(secret, known_by, hashlib.sha256).digest(),
        fingerprint=hashlib.sha256(len(how).to_bytes(4, "big") + how + body).digest(),
        tag=hashlib.sha256(secret).digest()[:TAG_BYTES],
    )


def ends_transaction(request: Statement | Batch) -> bool:
    """Whether one of the statements would end the transaction that has to hold the key together with the write."""
    asked = request.statements if isinstance(request, Batch) else (request,)
    return any(control.ends_transaction(statement.text.encode()) for statement in asked)
