"""Tokens: taken apart, their signature and their claims checked, one after the other, each failure under its name.

The order and the words are Neon's. What a token's header says is never believed beyond choosing among the issuer's own
keys and algorithms: no key, URL or certificate in it is looked at.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from sqlhttp_gateway.auth.jwks import KeySet, verify
from sqlhttp_gateway.errors import InvalidToken, KeySetUnavailable
from sqlhttp_gateway.model import NO_LIMITS, Allowance

MAX_LENGTH = 16_384
SYMMETRIC = "HS256"
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA")
_MALFORMED = "Provided authentication token is not a valid JWT encoding"
_NOT_FOUND = "jwk not found"
_UNSUPPORTED = "signature algorithm not supported"
_BAD_SIGNATURE = "signature error: the signature does not match"
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs tokens, and what they are good for."""

    name: str
    keys: KeySet | None
    """Public keys; None for one that shares a secret."""
    roles: frozenset[str]
    target: str = "default"
    secret: bytes = field(default=b"", repr=False)
    issuer: str | None = None
    """What `iss` has to be; None: it is not looked at."""
    audience: str | None = None
    databases: frozenset[str] = frozenset()
    """Databases it may open; empty: any."""
    database_claim: str | None = None
    """The claim that names the database; the one in the connection string then does not count."""
    role_claim: str | None = None
    """The claim that names the role; the one in the connection string then does not count."""
    login: str | None = None
    """The role to log in as, which then becomes the token's; None: the token's itself."""
    algorithms: tuple[str, ...] = ALGORITHMS
    read_only: bool = False
    statements: frozenset[bytes] | None = None
    allowance: Allowance = NO_LIMITS
    """What each of its subjects may take."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that passed."""

    issuer: Issuer
    database: str
    role: str
    subject: str
    expires_at: float | None
    """Unix time, the leeway included."""
    claims: bytes = field(repr=False)
    """The claims as JSON, each name once."""


@dataclass(frozen=True, slots=True)
class _Parts:
    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


class Tokens:
    """Verifies tokens of the configured issuers."""

    def __init__(
        self, issuers: Sequence[Issuer], *, leeway: float = 30.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._issuers = tuple(issuers)
        self._leeway = leeway
        self._clock = clock

    @property
    def is_used(self) -> bool:
        """Whether any token could be good."""
        return bool(self._issuers)

    async def verify(self, text: str, *, target: str, database: str, role: str) -> Verified:
        """What a token says, if it is good for this target, database and role.

        Raises:
            InvalidToken: it did not pass a check; the message says which.
            KeySetUnavailable: the issuer's keys are not to be had.
        """
        parts = _take_apart(text)
        algorithm = parts.header.get("alg")
        if algorithm != SYMMETRIC and algorithm not in ALGORITHMS:
            raise InvalidToken(_UNSUPPORTED)
        if "crit" in parts.header:  # RFC 7515, 4.1.11: what must be understood and is not makes it invalid
            raise InvalidToken("signature error: critical header parameters are not supported")
        key_id = parts.header.get("kid")
        issuer, key = await self._issuer(parts, algorithm, key_id, target=target, database=database, role=role)
        if not verify(algorithm, key, parts.signed, parts.signature):
            raise InvalidToken(_BAD_SIGNATURE)
        expires_at = self._check_claims(parts.claims, issuer)
        subject = parts.claims.get("sub")
        return Verified(
            issuer=issuer,
            database=_database(parts.claims, issuer, database),
            role=_role(parts.claims, issuer, role),
            subject=subject if isinstance(subject, str) else "",
            expires_at=expires_at,
            claims=bytes(memoryview(orjson.dumps(parts.claims))),  # what orjson makes keeps a buffer of 4 KiB
        )

    # ── inside ──

    async def _issuer(
        self, parts: _Parts, algorithm: str, key_id: object, *, target: str, database: str, role: str
    ) -> tuple[Issuer, Any]:
        """The issuer whose key the token names. Its claims are not believed yet; they only choose among issuers."""
        candidates = [
            each
            for each in self._issuers
            if each.target == target
            and _role(parts.claims, each, role) in each.roles
            and _opens(each, _database(parts.claims, each, database))
            and (each.keys is None) == (algorithm == SYMMETRIC)
        ]
        if key_id is None and not any(each.keys is None for each in candidates):
            raise InvalidToken("missing key id")
        if not candidates:
            raise InvalidToken(_NOT_FOUND if algorithm != SYMMETRIC else _UNSUPPORTED)
        named = [each for each in candidates if each.issuer is None or each.issuer == parts.claims.get("iss")]
        if not named:
            raise InvalidToken("invalid JWT token issuer")
        named.sort(key=lambda each: not _is_meant(parts.claims, each))  # one key may sign for several audiences
        if algorithm == SYMMETRIC:  # no key id says whose it is: of two that share a secret, either may have signed
            signers = (each for each in named if verify(algorithm, each.secret, parts.signed, parts.signature))
            signer = next(signers, named[0])
            return signer, signer.secret
        is_known = False
        fitting: tuple[Issuer, Any] | None = None
        unavailable: KeySetUnavailable | None = None
        for issuer in named:
            assert issuer.keys is not None
            if not isinstance(key_id, str):
                raise InvalidToken(_MALFORMED)
            if algorithm in issuer.algorithms:
                try:
                    key = await issuer.keys.key(key_id, algorithm)
                except KeySetUnavailable as error:  # it may be the next one's
                    unavailable = unavailable or error
                    continue
                # Two may have given one id to keys of their own.
                if key is not None and (len(named) == 1 or verify(algorithm, key, parts.signed, parts.signature)):
                    return issuer, key
                fitting = fitting or (None if key is None else (issuer, key))
            is_known = is_known or algorithm not in issuer.algorithms or issuer.keys.knows(key_id)
        if unavailable is not None:
            raise unavailable
        if fitting is not None:
            return fitting
        raise InvalidToken(_UNSUPPORTED if is_known else _NOT_FOUND)

    def _check_claims(self, claims: dict[str, Any], issuer: Issuer) -> float | None:
        now = self._clock()
        if not _is_meant(claims, issuer):
            raise InvalidToken("invalid JWT token audience")
        expires = _moment(claims, "exp")
        if expires is not None and now >= expires + self._leeway:
            raise InvalidToken(f"JWT token has expired (exp={expires})")
        begins = _moment(claims, "nbf")
        if begins is not None and begins >= now + self._leeway:
            raise InvalidToken(f"JWT token is not yet ready to use (nbf={begins})")
        return None if expires is None else expires + self._leeway


def _is_meant(claims: dict[str, Any], issuer: Issuer) -> bool:
    """Whether the issuer's audience is one of the token's, where it has one."""
    audience = claims.get("aud")
    return issuer.audience is None or issuer.audience in (audience if isinstance(audience, list) else [audience])


def _role(claims: dict[str, Any], issuer: Issuer, role: str) -> str:
    """The role that a token is for: the connection string's, or where a claim names it, that and no other."""
    if issuer.role_claim is None:
        return role
    named = claims.get(issuer.role_claim)
    return named if isinstance(named, str) else ""


def _database(claims: dict[str, Any], issuer: Issuer, database: str) -> str:
    """The database that a token is for, in the same way."""
    if issuer.database_claim is None:
        return database
    named = claims.get(issuer.database_claim)
    return named if isinstance(named, str) else ""


def _opens(issuer: Issuer, database: str) -> bool:
    return database in issuer.databases if issuer.databases else bool(database)


def _moment(claims: dict[str, Any], name: str) -> int | None:
    moment = claims.get(name)
    if moment is None:
        return None
    if not isinstance(moment, int) or isinstance(moment, bool) or not 0 <= moment < 1 << 63:
        raise InvalidToken(_MALFORMED)
    return moment


def _take_apart(text: str) -> _Parts:
    pieces = text.split(".")
    if len(text) > MAX_LENGTH or len(pieces) != 3:
        raise InvalidToken(_MALFORMED)
    header, payload, signature = (_decoded(piece) for piece in pieces)
    return _Parts(_object(header), _object(payload), text.rpartition(".")[0].encode(), signature)


def _decoded(piece: str) -> bytes:
    """base64url without padding; the one spelling that encodes these bytes, and no other."""
    data = piece.encode("ascii", "replace")
    if not _ALPHABET.issuperset(data):
        raise InvalidToken(_MALFORMED)
    try:
        decoded = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        raise InvalidToken(_MALFORMED) from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != data:
        raise InvalidToken(_MALFORMED)
    return decoded


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object that means the same to everybody: each name once, no NaN, no NUL, nothing that is no text."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse)
        again = orjson.dumps(found)  # refuses half surrogates, and numbers beyond 64 bits
    except (ValueError, TypeError, RecursionError):
        raise InvalidToken(_MALFORMED) from None
    if not isinstance(found, dict) or _has_nul(again):
        raise InvalidToken(_MALFORMED)
    return found


def _has_nul(encoded: bytes) -> bool:
    """Whether a text in it holds a NUL, which Postgres can store in no jsonb."""
    return b"\\u0000" in encoded.replace(b"\\\\", b"")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)
