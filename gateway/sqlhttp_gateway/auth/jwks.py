"""An issuer's public keys: fetched from a URL or read from a file, refreshed behind the callers' backs.

A set that has grown old is refreshed in the background while it goes on being used, a key id that nobody knows asks for
a new one, at most once in a while, and when the issuer does not answer, the last good set serves on, up to a limit.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from sqlhttp_gateway.errors import KeySetUnavailable

MAX_BYTES = 65_536
"""Most bytes of a key set, as in Neon; a set of ten RSA keys has some 5,000."""
_CHUNK = 8_192
_FIRST_PAUSE = 1.0
"""Seconds between tries as long as no key was ever there: nobody can come in until one succeeds."""
_LEAST_RSA_BITS = 2048
"""RFC 7518, 3.3."""
_LOG = logging.getLogger(__name__)

_OF_TYPE = {
    ("RSA", None): ("RS256", "RS384", "RS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Key type and curve → algorithms. A symmetric key has no place in a set that everybody can read."""

Keys = dict[tuple[str, str], Any]
"""(key id, algorithm) → public key."""
Fetch = Callable[[], bytes]
"""Gets a key set. Runs in a thread; whatever it raises means that there is none."""


def keys_from_jwks(data: bytes) -> Keys:
    """The usable keys of a set; one that is for another use, unknown or broken is passed over.

    Raises:
        ValueError: it is no key set, or there is no usable key in it.
    """
    document = orjson.loads(data)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JSON Web Key Set")
    keys: Keys = {}
    for entry in entries:
        for name, algorithm, key in _usable(entry):
            keys.setdefault((name, algorithm), key)
    if not keys:
        raise ValueError("no usable key in the set")
    return keys


@cache
def _algorithms() -> Any:
    """PyJWT's, by name."""
    # With cryptography they take 9 MiB, which a worker that is shown no tokens can do without.
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()


def _usable(entry: object) -> list[tuple[str, str, Any]]:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return []
    operations = entry.get("key_ops", ["verify"])
    name = entry.get("kid")
    if not isinstance(name, str) or not isinstance(operations, list) or "verify" not in operations:
        return []
    curve = entry.get("crv") if entry.get("kty") != "RSA" else None
    algorithms = _OF_TYPE.get((str(entry.get("kty")), curve if isinstance(curve, str) else None), ())
    if "alg" in entry:
        algorithms = tuple(each for each in algorithms if each == entry["alg"])
    # Of a private key only the public half is kept; that it was published is its owner's to find out.
    public = {name: value for name, value in entry.items() if name not in {"d", "p", "q", "dp", "dq", "qi", "oth"}}
    if not algorithms:
        return []
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.exceptions import PyJWTError

    found = []
    for algorithm in algorithms:
        try:
            key = _algorithms()[algorithm].from_jwk(public)
        except (PyJWTError, ValueError, TypeError, KeyError):
            continue
        if not isinstance(key, RSAPublicKey) or key.key_size >= _LEAST_RSA_BITS:
            found.append((name, algorithm, key))
    return found


def verify(algorithm: str, key: Any, signed: bytes, signature: bytes) -> bool:
    """Whether `signature` over `signed` was made with the other half of `key`, or with `key` itself for HS256."""
    return bool(_algorithms()[algorithm].verify(signed, key, signature))


class KeySet:
    """One issuer's keys, as they were when last fetched."""

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        *,
        timeout: float = 5.0,
        max_age: float = 300.0,
        pause: float = 30.0,
        max_stale: float = 86_400.0,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Times are seconds. `on_change` is called when a key is there no more."""
        self._name = name
        self._fetch = fetch
        self._timeout = timeout
        self._max_age = max_age
        self._pause = pause
        self._max_stale = max_stale
        self._clock = clock
        self._on_change = on_change
        self._keys: Keys = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._thread: asyncio.Future[bytes] | None = None
        """What fetches, which nobody can end, so that it may take longer than its time."""

    async def key(self, name: str, algorithm: str) -> Any | None:
        """The key with this id for this algorithm; None when there is none.

        Raises:
            KeySetUnavailable: the issuer was never reached, or not for too long.
        """
        await self._ensure_fetched()
        found = self._keys.get((name, algorithm))
        if found is None and not self.knows(name) and (self._fetching is not None or self._may_try):
            await self._shared_fetch()
            found = self._keys.get((name, algorithm))
        return found

    def knows(self, name: str) -> bool:
        """Whether a key has this id, for whatever algorithm, as far as was fetched."""
        return any(known == name for known, _ in self._keys)

    def take_over(self, before: "KeySet") -> None:
        """Begin with what another set has of the same place, which may not be there just now."""
        self._keys, self._fetched_at = before._keys, before._fetched_at

    def renew(self) -> None:
        """Fetch in the background, whatever the age of the keys, which are used until then."""
        self._start()

    async def stop(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fetching

    # ── inside ──

    @property
    def _may_try(self) -> bool:
        """The last try, whatever came of it, is long enough ago: a stranger's key ids cause no traffic."""
        pause = self._pause if self._fetched_at is not None else min(self._pause, _FIRST_PAUSE)
        return self._tried_at is None or self._clock() - self._tried_at >= pause

    async def _ensure_fetched(self) -> None:
        age = None if self._fetched_at is None else self._clock() - self._fetched_at
        if age is not None and age <= self._max_age:
            return
        if age is not None and age <= self._max_stale:
            if self._may_try:
                self._start()
            return
        if self._fetching is not None or self._may_try:
            await self._shared_fetch()
        if self._fetched_at is None or self._clock() - self._fetched_at > self._max_stale:
            raise KeySetUnavailable(f"the keys of issuer {self._name} cannot be fetched", retry_after=1)

    async def _shared_fetch(self) -> None:
        # Waited for in this way, since a fetch that `stop` ends must not end the requests that wait for it as well.
        await asyncio.wait((self._start(),))

    def _start(self) -> "asyncio.Task[None]":
        if self._fetching is None:
            self._tried_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._refresh())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, _: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def _refresh(self) -> None:
        """Fetch once; a failure is logged, without the URL or the answer, and leaves the keys as they are."""
        try:
            async with asyncio.timeout(self._timeout):
                keys = keys_from_jwks(await self._fetched())
        except Exception as error:  # what a stranger's server can bring about is nobody's to foresee, and ends nothing
            reason = str(error) if isinstance(error, NotFetched) else type(error).__name__
            _LOG.warning("the keys of issuer %s could not be fetched: %s", self._name, reason)
            return
        is_changed = any(keys.get(which) != key for which, key in self._keys.items())
        self._keys = keys
        self._fetched_at = self._clock()
        if is_changed:
            self._on_change()

    async def _fetched(self) -> bytes:
        if self._thread is not None:
            # One thread for each issuer and no more: there are few, and whoever resolves a name needs one as well.
            raise NotFetched("the fetch before it has not ended yet")
        self._thread = asyncio.ensure_future(asyncio.to_thread(self._fetch))
        self._thread.add_done_callback(self._thread_ended)
        return await asyncio.shield(self._thread)

    def _thread_ended(self, thread: "asyncio.Future[bytes]") -> None:
        self._thread = None
        if not thread.cancelled():
            thread.exception()  # whoever waited may have given up; asyncio would complain that nobody looked


class NotFetched(OSError):
    """The answer was not one to believe; the text says why and holds nothing of it."""


def fetch_url(url: str, *, timeout: float = 5.0) -> Fetch:
    """Fetches over HTTP, with a bound on time and size, and never from anywhere but `url`: an issuer's keys are where
    the settings say, and a redirect could lead to a server inside."""
    from urllib.error import HTTPError
    from urllib.request import Request

    from sqlhttp_gateway.no_redirect import opener

    one_place = opener()
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "sqlhttp"})

    def fetch() -> bytes:
        deadline = time.monotonic() + timeout
        try:
            with one_place.open(request, timeout=timeout) as response:
                if response.status != 200:
                    raise NotFetched(f"status {response.status}")
                parts, size = [], 0
                while part := response.read1(_CHUNK):
                    parts.append(part)
                    size += len(part)
                    if size > MAX_BYTES:
                        raise NotFetched(f"more than {MAX_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise NotFetched(f"not complete within {timeout:g} s")
                return b"".join(parts)
        except HTTPError as error:
            error.close()
            raise NotFetched(f"status {error.code}") from None

    return fetch


def read_file(path: Path) -> Fetch:
    """Reads a key set that lies in a file."""

    def fetch() -> bytes:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise NotFetched(f"more than {MAX_BYTES} bytes")
        return data

    return fetch
