"""Which password was proven for which role, and how one is proven.

A password is compared with Postgres's own verifier where the gateway may read pg_authid, else tried by logging in. The
proof is kept as a keyed hash for `auth.proof_lifetime` seconds. A role that does not exist costs the same work and
gets the same answer as a wrong password.

With each proof it is seen whether the role is still the one that it was: where one was renamed or dropped and another
has its name, Postgres lets the connections of before go on as the former, and they have to be replaced.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlhttp_gateway.errors import (
    CredentialsMissing,
    DatabaseMissing,
    GatewayError,
    PasswordFailed,
    PostgresError,
    QueueFull,
    TargetMisconfigured,
    TargetUnavailable,
    TooManyFailures,
    WaitTimeout,
)
from sqlhttp_gateway.model import Dsn, PoolKey, Target
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.connect import password_failed
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.rounds import are_too_many
from sqlhttp_gateway.pools.targets import Upstream
from sqlhttp_gateway.settings import AuthSettings
from sqlhttp_gateway.wire.scram import (
    DEFAULT_ITERATIONS,
    Md5Verifier,
    Verifier,
    mock_verifier,
    parse_verifier,
    verify_password,
)

_VERIFIER_QUERY = (
    "SELECT rolpassword, oid FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin"
    " AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())"
)
_ROLE_QUERY = "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1"
_INSUFFICIENT_PRIVILEGE = "42501"
_CHECKS_AT_ONCE = 2
_CHECKS_WAITING = 500
_KNOWN_FOR = 600.0
"""Seconds for which it is known of an expired proof that there was one."""
_LOGIN_MODE_FOR = 60.0
"""Seconds after which the gateway looks again whether it may read pg_authid."""


class Passwords:
    """Proves passwords, and remembers for a while what was proven."""

    def __init__(self, settings: AuthSettings, registry: PoolRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._key = secrets.token_bytes(32)
        self._proven: dict[tuple[str, str], dict[bytes, float]] = {}
        self._running: dict[tuple[PoolKey, Target, bytes], asyncio.Task[float]] = {}
        self._servers: dict[str, Target] = {}
        """Where each target led when something was last proven there."""
        self._roles: dict[tuple[str, str], bytes | None] = {}
        """The number by which Postgres knew a role of a target the last time."""
        self._by_login_until: dict[str, float] = {}
        self._wrong_is_refused: set[PoolKey] = set()
        self._iterations = DEFAULT_ITERATIONS
        self._gate: Gate[None] = Gate(_CHECKS_AT_ONCE, max_waiting=_CHECKS_WAITING, name="password checks")
        self._threads = ThreadPoolExecutor(_CHECKS_AT_ONCE, thread_name_prefix="password")

    async def prove(
        self, dsn: Dsn, key: PoolKey, upstream: Upstream, *, may_look: Callable[[], None] = lambda: None
    ) -> float:
        """Find out whether the password is the role's; answers until when that may be believed, on the loop's clock.

        `may_look` is called again when its turn has come, for those before it may have been too many wrong ones.

        Raises:
            CredentialsMissing: there is no password.
            TooManyFailures: `may_look` has raised it.
            PasswordFailed: it is wrong, or there is no such role.
            GatewayError: Postgres could not be asked.
        """
        if dsn.password is None:
            raise CredentialsMissing("missing authentication credentials: required password")
        digest, server = self._digest(dsn.password), upstream.target
        if self._servers.setdefault(key.target, server) != server:
            self._forget(key.target)
            self._servers[key.target] = server
        proofs = self._proven.get((key.target, dsn.role), {})
        # A dict look-up is no constant-time comparison; of a keyed hash it tells a stranger nothing.
        expiry = proofs.get(digest)
        if expiry is not None and self._loop.time() < expiry:
            return expiry
        flight = (key, server, digest)
        while True:
            # Many requests of one burst share a check; it belongs to none of them, so none can cancel it for others.
            task = self._running.get(flight)
            is_own = task is None
            if task is None:
                task = self._loop.create_task(self._check(dsn.password, key, upstream, may_look))
                self._running[flight] = task
                task.add_done_callback(lambda done: self._landed(flight, done))
            try:
                proven_at = await asyncio.shield(task)
            except TooManyFailures:
                if is_own:
                    raise
                may_look()  # whoever began it was refused, from another address perhaps
            else:
                if self._servers.get(key.target) != server:  # it leads elsewhere since
                    return proven_at
                return self._remember((key.target, dsn.role), digest, proven_at=proven_at)

    def knew(self, dsn: Dsn, key: PoolKey) -> bool:
        """Whether the password was right a short while ago, be that proof believed still or not."""
        proofs = self._proven.get((key.target, dsn.role))
        return proofs is not None and dsn.password is not None and self._digest(dsn.password) in proofs

    def _forget(self, target: str) -> None:
        """What its server said of passwords means nothing at another one, to which the settings lead now."""
        self._proven = {role: proofs for role, proofs in self._proven.items() if role[0] != target}
        self._wrong_is_refused = {key for key in self._wrong_is_refused if key.target != target}
        self._by_login_until.pop(target, None)

    def _landed(self, flight: tuple[PoolKey, Target, bytes], task: asyncio.Task[float]) -> None:
        self._running.pop(flight, None)
        if not task.cancelled():
            task.exception()  # all who waited for it may have left; asyncio would complain that nobody looked

    def _remember(self, role: tuple[str, str], digest: bytes, *, proven_at: float) -> float:
        proofs = self._proven.setdefault(role, {})
        now = self._loop.time()
        for old in [known for known, expiry in proofs.items() if expiry + _KNOWN_FOR <= now]:
            del proofs[old]
        proofs[digest] = expiry = proven_at + self._settings.proof_lifetime
        return expiry

    def reconfigure(self, settings: AuthSettings) -> None:
        """Prove what comes by these settings. What was proven counts for the time that it was given then."""
        self._settings = settings
        self._by_login_until.clear()

    def close(self) -> None:
        """Let go of the threads."""
        for task in self._running.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _digest(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._key, digest_size=16).digest()

    async def _check(self, password: bytes, key: PoolKey, upstream: Upstream, may_look: Callable[[], None]) -> float:
        """Return if the password is right: the moment from which on that is not sure any more."""
        for database in (upstream.admin.database, key.database):
            if self._registry.is_paused(database):  # not while holding up those behind at the gate
                await self._registry.resumed(database, timeout=upstream.pool.pause_limit)
        try:
            await self._gate.enter(upstream.pool.wait_timeout)
        except (QueueFull, WaitTimeout) as error:
            raise type(error)("too many passwords are being checked just now", retry_after=1) from None
        try:
            may_look()
            if self._settings.verify_by != "login" and not self._must_log_in(key.target):
                asked = self._loop.time()
                try:
                    verifier = await self._verifier(key, upstream)
                except _NotAllowed:
                    if self._settings.verify_by == "verifier":
                        raise TargetMisconfigured(
                            f"target {key.target}: the gateway's role cannot read pg_authid to check passwords",
                            hint="Give it the right to, or set auth.verify_by to login.",
                        ) from None
                    self._by_login_until[key.target] = asked + _LOGIN_MODE_FOR
                else:
                    if not await self._matches(verifier, password, key.role):
                        raise password_failed(key.role)
                    return asked
            asked = self._loop.time()
            await self._log_in(password, key, upstream)
            return asked
        finally:
            self._gate.leave()

    def _must_log_in(self, target: str) -> bool:
        return self._loop.time() < self._by_login_until.get(target, 0.0)

    async def _verifier(self, key: PoolKey, upstream: Upstream) -> str | None:
        """What pg_authid holds for the role; None for a role that cannot log in with a password now."""
        admin = upstream.admin
        pool = self._registry.pool(PoolKey(upstream.target.name, admin.database, admin.role), upstream)
        try:
            lease = self._registry.try_lease(pool) or await self._registry.lease(pool, lambda: admin.password or b"")
        except (PasswordFailed, DatabaseMissing) as error:
            raise TargetMisconfigured(
                f"target {upstream.target.name}: Postgres refuses the gateway's own role, password or database "
                f"({error.code if isinstance(error, DatabaseMissing) else error.sqlstate})",
                hint="Correct the connection string in the gateway's settings.",
            ) from None
        try:
            rows = await ask(lease, _VERIFIER_QUERY, (key.role.encode(),))
        except PostgresError as error:
            if error.code == _INSUFFICIENT_PRIVILEGE:
                raise _NotAllowed from None
            # Nobody's fault here: the server stops, or a standby cancels what stands in the way of its recovery.
            raise TargetUnavailable(
                f"target {upstream.target.name}: Postgres could not be asked for a verifier ({error.code})",
                retry_after=1,
            ) from None
        finally:
            lease.release()
        self._met(key, rows[0][1] if rows else None)
        return rows[0][0].decode() if rows and rows[0][0] is not None else None

    async def _meet(self, key: PoolKey, pool: Pool) -> None:
        """Ask who the role is that has just logged in; where no connection is idle, the next proof asks."""
        lease = self._registry.try_lease(pool)
        if lease is None:
            return
        try:
            with contextlib.suppress(GatewayError):
                rows = await ask(lease, _ROLE_QUERY, (key.role.encode(),))
                self._met(key, rows[0][0] if rows else None)
        finally:
            lease.release()

    def _met(self, key: PoolKey, number: bytes | None) -> None:
        """The role is this one now; None: nobody has its name."""
        if number is not None:
            before = self._roles.setdefault((key.target, key.role), number)
            if before != number:
                self._roles[key.target, key.role] = number
                self._registry.replace_role(key.role)

    async def _matches(self, text: str | None, password: bytes, role: str) -> bool:
        verifier = parse_verifier(text) if text is not None else None
        if isinstance(verifier, Verifier) and not are_too_many(verifier.iterations):
            self._iterations = verifier.iterations
            return await self._compare(verifier, password, role)
        # No verifier, one that costs too much, or one of the cheap old kind: do the same work all the same.
        mock = mock_verifier(role, self._key, iterations=self._iterations)
        await self._compare(mock, password, role)
        return isinstance(verifier, Md5Verifier) and verify_password(verifier, password, role)

    async def _compare(self, verifier: Verifier, password: bytes, role: str) -> bool:
        return await self._loop.run_in_executor(self._threads, verify_password, verifier, password, role)

    async def _log_in(self, password: bytes, key: PoolKey, upstream: Upstream) -> None:
        """Prove the password by using it.

        The first time that works, a wrong one is tried, too: Postgres with `trust` in pg_hba.conf lets everybody in, so
        that a log-in proves nothing. In this order a wrong password costs one log-in, whether the role exists or not.
        """
        pool = self._registry.pool(key, upstream)
        await pool.log_in(password)
        await self._meet(key, pool)
        if key in self._wrong_is_refused:
            return
        try:
            await pool.log_in(secrets.token_hex(16).encode())
        except PasswordFailed:
            self._wrong_is_refused.add(key)
            return
        raise TargetMisconfigured(
            f"target {key.target}: Postgres does not ask the gateway for a password (trust, or peer by a socket), "
            "so that passwords cannot be checked by logging in",
            hint="Change pg_hba.conf to scram-sha-256, or let the gateway's role read pg_authid.",
        )


class _NotAllowed(Exception):
    """The gateway's role may not read pg_authid."""
