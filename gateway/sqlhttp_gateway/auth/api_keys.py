"""API keys: their form, their hashes, and the set that is valid now, from the settings and from a table.

A key is `sk_`, twelve hex digits that name it, and forty characters that are the secret, some 238 bits. With that much
chance in it a plain SHA-256 is all the hashing it needs. What is kept is the hash alone.
"""

import hashlib
import hmac
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from sqlhttp_gateway.auth.allowances import allowance_of
from sqlhttp_gateway.auth.credentials import ApiKey
from sqlhttp_gateway.auth.reread import Reread
from sqlhttp_gateway.errors import GatewayError, InvalidKey, KeysUnreadable
from sqlhttp_gateway.model import NO_LIMITS, Allowance
from sqlhttp_gateway.settings import KeySettings

HASH_PREFIX = "sha256:"
_ALPHABET = string.ascii_letters + string.digits
_NOBODY = hashlib.sha256(b"no key hashes to this in our lifetime").hexdigest()
_REFUSAL = "invalid API key"
_STALE_AFTER = 6
"""Refreshes in a row that may fail before the table's keys are believed no longer."""
_LEAST_STALE = 30.0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as it is kept: what it may do, and the hash of its text."""

    id: str
    hash: str
    target: str
    database: str
    role: str
    login: str | None = None
    """The role to log in as, which then becomes `role`; None: that itself."""
    name: str = ""
    expires_at: float | None = None
    """Unix time."""
    origins: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    read_only: bool = False
    statements: frozenset[bytes] | None = None
    """SHA-256 digests of the only statements it may run."""
    allowance: Allowance = NO_LIMITS
    """What it may take."""


Source = Callable[[], Awaitable[list[KeyRecord]]]
"""Reads the keys of the table."""


def new_key() -> ApiKey:
    """A key nobody has seen yet."""
    key_id = secrets.token_hex(6)
    return ApiKey(key_id, f"sk_{key_id}_{''.join(secrets.choice(_ALPHABET) for _ in range(40))}")


def hash_of(key: ApiKey) -> str:
    """What is kept of a key."""
    return HASH_PREFIX + hashlib.sha256(key.text.encode()).hexdigest()


def records_from_settings(keys: Mapping[str, KeySettings]) -> dict[str, KeyRecord]:
    """The keys of the settings by their ids."""
    return {
        key_id: KeyRecord(
            id=key_id,
            hash=each.hash.get_secret_value(),
            target=each.target,
            database=each.database,
            role=each.role,
            login=each.login,
            name=each.name,
            expires_at=each.expires_at.timestamp() if each.expires_at else None,
            origins=each.origins,
            addresses=each.addresses,
            read_only=each.read_only,
            statements=None if each.statements is None else frozenset(map(bytes.fromhex, each.statements)),
            allowance=allowance_of(each),
        )
        for key_id, each in keys.items()
    }


class ApiKeys:
    """The keys that are valid now. Those of the table are read again every `refresh` seconds."""

    def __init__(
        self,
        fixed: Mapping[str, KeyRecord],
        source: Source | None = None,
        *,
        refresh: float = 10.0,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` is called when a key that was valid may be so no longer."""
        self._fixed = dict(fixed)
        self._stale_after = max(_LEAST_STALE, _STALE_AFTER * refresh)
        self._clock = clock
        self._on_change = on_change
        self._table: dict[str, KeyRecord] = {}
        self._rereading: Reread[list[KeyRecord]] | None = None
        if source is not None:
            self._rereading = Reread(source, self._take, what="API keys", every=refresh, clock=clock)

    @property
    def is_used(self) -> bool:
        """Whether a key could be valid at all."""
        return bool(self._fixed) or self._rereading is not None

    async def find(self, key: ApiKey) -> KeyRecord:
        """The record of a key, if that is what it says it is.

        Raises:
            InvalidKey: there is no such key, it is revoked, or it has expired.
            KeysUnreadable: the table has not been read for too long.
        """
        record = self._fixed.get(key.id)
        if record is None and self._rereading is not None:
            await self._ensure_read(self._rereading)
            record = self._table.get(key.id)
        # Known or not, the same work is done, and the comparison takes the same time wherever they differ.
        expected = record.hash if record is not None else HASH_PREFIX + _NOBODY
        if not hmac.compare_digest(hash_of(key).encode(), expected.encode()) or record is None:
            raise InvalidKey(_REFUSAL)
        if record.expires_at is not None and self._clock() >= record.expires_at:
            raise InvalidKey("the API key has expired")
        return record

    def start(self) -> None:
        """Begin to read the table now and then."""
        if self._rereading is not None:
            self._rereading.start()

    def reconfigure(self, fixed: Mapping[str, KeyRecord], *, refresh: float) -> None:
        """Take other keys for those of the settings; the table's stay as they were read."""
        self._fixed = dict(fixed)
        self._stale_after = max(_LEAST_STALE, _STALE_AFTER * refresh)
        if self._rereading is not None:
            self._rereading.every = refresh
        self._on_change()

    async def stop(self) -> None:
        """Read it no more."""
        if self._rereading is not None:
            await self._rereading.stop()

    async def read(self) -> None:
        """Read the table now; many who want it at once share one look.

        Raises:
            GatewayError: it cannot be read; the keys are those of the last time.
        """
        assert self._rereading is not None
        await self._rereading.read()

    # ── inside ──

    async def _ensure_read(self, table: Reread[list[KeyRecord]]) -> None:
        age = table.age
        if age is None:
            try:
                await table.read()
            except GatewayError as error:
                raise KeysUnreadable(f"the table of API keys cannot be read: {error.message}", retry_after=1) from None
        elif age > self._stale_after:
            raise KeysUnreadable("the table of API keys has not been readable for too long", retry_after=1)

    def _take(self, records: list[KeyRecord]) -> None:
        found = {record.id: record for record in records}
        if any(found.get(key_id) != record for key_id, record in self._table.items()):
            self._on_change()
        self._table = found
