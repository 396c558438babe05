"""How many rounds of hashing a password may cost (SCRAM's iterations).

Each role chooses its own number, by the verifier that it brings to ALTER ROLE, and whoever checks its password, or logs
in with it, does the work: a thread here, and in asyncpg the event loop, where nobody else is answered meanwhile.
Postgres does it once, when it is given a verifier, and has no bound. So does the gateway for what it logs in with: at
Postgres's default a log-in takes 2.1 ms of CPU time the first time, and 0.9 from then on.
"""

import hashlib
from functools import lru_cache
from types import SimpleNamespace

from asyncpg.protocol import protocol

MOST_ROUNDS = 1_000_000
"""A third of a second of CPU time. Postgres's default is 4,096; what OWASP advises for PBKDF2 is 600,000."""

_KEPT = 1_000
"""Roles whose hash is not computed again at each log-in: a role's salt is another as soon as its password is."""


def are_too_many(rounds: int) -> bool:
    """Whether a password that costs so many is refused, as if it were wrong."""
    return rounds > MOST_ROUNDS


def bound_log_ins() -> None:
    """From now on asyncpg logs in with no more: its proof is then wrong, and Postgres refuses the password."""
    protocol.hashlib = SimpleNamespace(**{**vars(hashlib), "pbkdf2_hmac": _bounded})


def _bounded(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    return _hashed(name, password, salt, 1 if are_too_many(rounds) else rounds)


@lru_cache(maxsize=_KEPT)
def _hashed(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac(name, password, salt, rounds)
