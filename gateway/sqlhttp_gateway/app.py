"""The one place where everything is put together: owners made in order, handed over, and closed in reverse."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from sqlhttp_gateway.auth.build import Credentials
from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.cache.invalidation import Invalidations
from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.shared import SharedStore
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.cache.store import Store
from sqlhttp_gateway.cached import CachedAnswers
from sqlhttp_gateway.certificate import Certificate, load
from sqlhttp_gateway.endpoints.access import ADMIN_SOCKET, Access
from sqlhttp_gateway.endpoints.cache import PATH as INVALIDATE_PATH
from sqlhttp_gateway.endpoints.cache import Invalidate, invalidate
from sqlhttp_gateway.endpoints.listener import Listener
from sqlhttp_gateway.endpoints.metrics import Scrape, metrics
from sqlhttp_gateway.endpoints.openapi import openapi
from sqlhttp_gateway.endpoints.origins import Origins, refuse_page
from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.endpoints.probes import Readiness, livez, readyz
from sqlhttp_gateway.endpoints.sql import SqlEndpoint
from sqlhttp_gateway.endpoints.status import Status, status
from sqlhttp_gateway.endpoints.tunnel import PATHS as TUNNEL_PATHS
from sqlhttp_gateway.endpoints.tunnel import TunnelEndpoint
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import Evicted, Observer, Reloaded, each, unobserved
from sqlhttp_gateway.execute import Limits
from sqlhttp_gateway.idempotency.store import KeyStore
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.neon.headers import REQUEST_ID
from sqlhttp_gateway.neon.response import NOT_SUPPORTED
from sqlhttp_gateway.observe.activity import Activity
from sqlhttp_gateway.observe.audit import audit_observer
from sqlhttp_gateway.observe.build import build_version
from sqlhttp_gateway.observe.fingerprint import fingerprint
from sqlhttp_gateway.observe.logs import LogLines
from sqlhttp_gateway.observe.metrics import Metrics
from sqlhttp_gateway.observe.report import CacheSnapshot, Hot
from sqlhttp_gateway.observe.reporter import Place, Reporter
from sqlhttp_gateway.observe.trace import Traces
from sqlhttp_gateway.observe.watch import Watch
from sqlhttp_gateway.observe.webhook import Webhook, post_to
from sqlhttp_gateway.owners import Owners
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.reads.verdicts import Verdicts
from sqlhttp_gateway.reload import changes, in_effect
from sqlhttp_gateway.reply import new_request_id
from sqlhttp_gateway.service import SqlService
from sqlhttp_gateway.settings import Settings, per_worker, shown
from sqlhttp_gateway.siblings import Siblings
from sqlhttp_gateway.sql.access import Ways
from sqlhttp_gateway.sql.attempts import Attempts
from sqlhttp_gateway.sql.carrier import Carrier
from sqlhttp_gateway.sql.changes import Changes
from sqlhttp_gateway.sql.consulting import Consulting
from sqlhttp_gateway.sql.hits import Hits
from sqlhttp_gateway.sql.once import Once
from sqlhttp_gateway.sql.routing import Routed
from sqlhttp_gateway.story import Telling
from sqlhttp_gateway.tunnel.console import Sources
from sqlhttp_gateway.tunnel.controls import Controls
from sqlhttp_gateway.tunnel.notified import Notified
from sqlhttp_gateway.tunnel.tunnels import Tunnels

SQL_PATH = "/sql"
_HOTTEST = 10
"""Answers of the cache that the status page shows."""
_CANCEL_MARGIN = 5.0
"""Seconds after which a statement is over whose cancel was given up."""


class Gateway:
    """The ASGI application: `/sql` straight to its endpoint, everything else through Starlette."""

    def __init__(
        self,
        settings: Settings,
        *,
        observe: Observer | None = None,
        place: Place | None = None,
        postgres_unix: socket.socket | None = None,
        stamps: Stamps | None = None,
    ) -> None:
        """`postgres_unix` is the TCP door's Unix socket.

        Raises:
            ConfigurationError: a connection string or a certificate cannot be used, or an extra is missing.
        """
        self._settings = settings
        self._postgres_unix = postgres_unix
        self._targets = Targets(settings)
        self._owners = self._standing = Owners()
        """Of those that are there before the lifespan, and in it of all."""
        self._place = place
        self._stamps = stamps or Stamps()
        self._metrics = Metrics(settings.metrics.max_labels, before=place.before() if place else None)
        self._traces = Traces() if settings.trace.opentelemetry else None
        log = LogLines(settings.log)
        self._standing.add(reconfigure=lambda new: log.reconfigure(new.log))
        self._hears_each = observe is not None or self._traces is not None
        """Whether somebody beside the log wants to hear of each request."""
        observers: list[Observer] = [observe or log, self._metrics]
        if self._traces is not None:
            observers.append(self._traces)
        if settings.audit.statements != "off":
            observers.append(audit_observer(settings.audit))
        self._observe = each(*observers)
        self._origins = Origins(settings.request.allow_origins)
        self.peers = Peers(settings.listen)
        """Whose word about a program's address is taken, and who may come in."""
        self._standing.add(reconfigure=lambda new: self.peers.reconfigure(new.listen))
        self._standing.add(reconfigure=lambda new: self._origins.reconfigure(new.request.allow_origins))
        self._sql: SqlEndpoint | None = None
        self._tunnel: TunnelEndpoint | None = None
        self._tunnels: Tunnels | None = None
        self._listener: Listener | None = None
        self._readiness: Readiness | None = None
        self.certificate = (
            Certificate(settings.listen, self._observe) if settings.listen.tls_certificate is not None else None
        )
        """That of both ports; None: they speak no TLS."""
        self._drain_until: float | None = None
        probes = [Route("/livez", livez), Route("/readyz", readyz), Route("/openapi.json", openapi)]
        inside = [Route("/metrics", metrics), Route("/status", status)]
        programs = [Route(INVALIDATE_PATH, invalidate, methods=["POST", "OPTIONS"])]
        has_own_address = settings.admin.port is not None or settings.admin.unix_socket is not None
        self._starlette = _starlette(
            programs + (probes if has_own_address else probes + inside), lifespan=self._lifespan
        )
        self._admin = _starlette(probes + inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not self._origins.admits(scope):
            await refuse_page(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == SQL_PATH and scope["method"] in {"POST", "QUERY", "OPTIONS"}:
            assert self._sql is not None, "the lifespan has not begun"
            await self._sql(scope, receive, send)
        elif scope["type"] == "websocket" and scope["path"] in TUNNEL_PATHS:
            assert self._tunnel is not None, "the lifespan has not begun"
            await self._tunnel(scope, receive, send)
        else:
            await self._starlette(scope, receive, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of the admin address."""
        scope[ADMIN_SOCKET] = scope.get("client") is None
        await self._admin(scope, receive, send)

    @property
    def lane(self) -> SqlEndpoint | None:
        """What answers `POST /sql` below ASGI, for requests that this application would send there in any case."""
        return self._sql

    @property
    def settings(self) -> Settings:
        """Those that are in effect."""
        return self._settings

    def begin_drain(self) -> None:
        """Say at /readyz that new work should go elsewhere; what comes all the same is still answered."""
        if self._readiness is not None:
            self._readiness.is_draining = True

    def begin_grace(self) -> Callable[[], float]:
        """From now on what runs has `drain.grace` seconds, all in all; how many of them are left is the answer's."""
        self._drain_until = asyncio.get_running_loop().time() + self._settings.drain.grace
        return self._grace_left

    async def drain_tunnels(self) -> None:
        """Let programs in a transaction finish it, for as long as there is grace, and end all tunnels."""
        if self._listener is not None:
            self._listener.close()
        if self._tunnels is not None:
            await self._tunnels.drain(self._grace_left())

    def _grace_left(self) -> float:
        if self._drain_until is None:
            self.begin_grace()
        assert self._drain_until is not None
        return max(0.0, self._drain_until - asyncio.get_running_loop().time())

    async def reload(self, read: Callable[[], Settings]) -> None:
        """Take up what `read` finds, if it can be used as a whole; requests that run go on.

        What came of it is told by one worker for all. `read` raises ConfigurationError when there is nothing to find.
        """
        observe = self._observe if self._place is None or not self._place.number else unobserved
        try:
            wanted = await asyncio.to_thread(read)  # thousands of keys take a while
            settings = in_effect(self._settings, wanted)
            targets = Targets(settings)
            loaded = await asyncio.to_thread(load, settings.listen) if self.certificate is not None else None
        # Where no file or thread is to be had just now, whoever serves goes on, too.
        except (ConfigurationError, OSError, RuntimeError) as error:
            observe(Reloaded(faults=tuple(str(error).splitlines())))
            return
        found = changes(self._settings, wanted)
        self._settings = settings
        self._targets.become(targets)
        if self.certificate is not None and loaded is not None:
            self.certificate.take(loaded, settings.listen)
        self._owners.reconfigure(settings)
        observe(Reloaded(live=found.live, restart=found.restart))

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        settings = self._settings
        pool = per_worker(settings.pool, settings.listen.workers)
        registry = PoolRegistry(
            max_total=pool.max_total,
            cancel_timeout=settings.statement.cancel_timeout,
            observe=self._observe,
            breaker=settings.breaker,
        )
        passwords = Passwords(settings.auth, registry)
        quotas = Quotas(registry)
        credentials = Credentials(settings, self._targets, registry, passwords)
        authenticator = credentials.authenticator
        probes = Probes(self._targets.groups, self._observe)
        verdicts = Verdicts(clock=self._stamps.now, lifetime=settings.cache.plan_lifetime)
        cached = self._make_cache(verdicts)
        settle_after = settings.statement.cancel_timeout + _CANCEL_MARGIN
        changes = Changes(cached, settle_after=settle_after) if cached is not None else None
        ways, attempts = Ways(registry, credentials.claims), Attempts(registry, credentials.claims)
        carrier = Carrier(
            attempts,
            registry=registry,
            probes=probes,
            limits=_limits(settings),
            observe=self._observe,
            changes=changes,
        )
        service = SqlService(
            authenticator=authenticator,
            quotas=quotas,
            ways=ways,
            routed=Routed(carrier, registry=registry, probes=probes, verdicts=verdicts),
            carrier=carrier,
            once=Once(KeyStore(OwnAccess(registry), settings.idempotency), attempts, carrier),
            consulting=Consulting(cached, ways, carrier) if cached is not None else None,
            observe=self._observe,
            most_seconds=settings.request.deadline,
            telling=self._telling(settings),
        )
        quick = Quick(
            tally=self._metrics.tally,
            changes=changes,
            hits=Hits(cached, self._metrics.hit_tally) if cached is not None else None,
            asks_cache=settings.cache.is_asked_by_default,
            authenticator=authenticator,
            registry=registry,
            limits=_limits(settings),
            observe=self._observe,
            most_seconds=settings.request.deadline,
            telling=self._telling(settings),
        )
        self._sql = sql = SqlEndpoint(service, settings.request, self._observe, quick=quick, peers=self.peers)
        siblings = Siblings(self._place.lines, self._place.number) if self._place is not None else Siblings()
        self._tunnels = tunnels = Tunnels(
            cache=cached.cache if cached is not None else None,
            tell=changes.tell if changes is not None else lambda buckets: None,
            authenticator=authenticator,
            registry=registry,
            claims=credentials.claims,
            quotas=quotas,
            siblings=siblings,
            settings=settings.tunnel,
            observe=self._observe,
            admit=self.peers.admit,
            is_audited=lambda: self._settings.audit.statements != "off",
        )
        self._tunnel = TunnelEndpoint(tunnels, self.peers)
        self._listener = listener = Listener(
            tunnels,
            settings.listen,
            certificate=self.certificate,
            unix=self._postgres_unix,
            trusts=self.peers.trusts,
        )
        self._readiness = Readiness(registry, self._targets)
        watch = self._make_watch()
        reporter = Reporter(
            metrics=self._metrics,
            registry=registry,
            connections_limit=pool.max_total * settings.listen.workers,
            watch=watch,
            probes=probes,
            place=self._place,
            certificate_expires_at=lambda: self.certificate.expires_at if self.certificate is not None else 0.0,
            cache=lambda: cache_snapshot(cached.cache.store) if cached is not None else CacheSnapshot(),
            tunnels=lambda: tunnels.connected,
        )
        controls = Controls(registry, siblings, reporter.whole)
        tunnels.open_console(
            Sources(
                version=build_version(),
                database=lambda: self._targets.default.admin.database,
                roles=lambda: frozenset((self._targets.default.admin.role, *self._settings.admin.roles)),
                report=reporter.whole,
                now=time.time,
                registry=registry,
                clients=tunnels.clients,
                pool_mode=tunnels.pool_mode,
                controls=controls,
                settings=lambda: shown(self._settings),
            )
        )
        access = Access(settings.admin.allow_from, self.peers)
        notified = None
        if cached is not None and changes is not None and settings.cache.listen:
            notified = Notified(cached.cache, tunnels.listeners, registry, self._targets, tell=changes.tell)
            cached.on_fetch = notified.want

        # From here on the order counts: top to bottom they are started, bottom to top they are stopped.
        self._owners = owners = Owners()
        add = owners.add
        add(reconfigure=self._standing.reconfigure)
        add(stop=passwords.close, reconfigure=lambda new: passwords.reconfigure(new.auth))
        if self._traces is not None:
            traces = self._traces
            add(start=traces.start, stop=lambda: asyncio.to_thread(traces.stop))
        add(
            start=reporter.start,
            stop=reporter.stop,
            reconfigure=lambda new: reporter.reconfigure(
                per_worker(new.pool, new.listen.workers).max_total * new.listen.workers
            ),
        )
        if watch is not None:
            add(
                start=lambda: watch.start(lambda: reporter.whole().pools),
                stop=watch.stop,
                reconfigure=lambda new: watch.reconfigure(new.watch),
            )
        if self.certificate is not None:
            add(start=self.certificate.start, stop=self.certificate.stop)
        add(start=probes.start, stop=probes.stop, reconfigure=lambda new: probes.follow(self._targets.groups))
        add(
            start=registry.start,
            # What was cancelled at the end of the grace time has to hear so from Postgres.
            stop=lambda: registry.drain(max(self._grace_left(), self._settings.statement.cancel_timeout)),
            reconfigure=lambda new: registry.apply(
                self._targets.by_server,
                max_total=per_worker(new.pool, new.listen.workers).max_total,
                breaker=new.breaker,
            ),
        )
        if notified is not None:
            add(start=notified.start, stop=notified.stop)
        if cached is not None:
            add(
                start=cached.start,
                stop=cached.stop,
                reconfigure=lambda new: cached.cache.reconfigure(new.cache),
            )
        add(start=credentials.start, stop=credentials.stop, reconfigure=credentials.reconfigure)
        add(
            reconfigure=lambda new: service.reconfigure(
                limits=_limits(new), telling=self._telling(new), most_seconds=new.request.deadline
            )
        )
        add(
            reconfigure=lambda new: quick.reconfigure(
                limits=_limits(new),
                telling=self._telling(new),
                most_seconds=new.request.deadline,
                asks_cache=new.cache.is_asked_by_default,
            )
        )
        add(reconfigure=lambda new: sql.reconfigure(new.request))
        add(reconfigure=lambda new: access.reconfigure(new.admin.allow_from))
        add(stop=controls.stop)
        add(start=siblings.start, stop=siblings.stop)
        if self._place is not None and self._place.before() is not None:
            add(start=controls.take_over)
        add(start=listener.start, stop=listener.stop, reconfigure=lambda new: listener.reconfigure(new.listen))
        add(stop=self.drain_tunnels, reconfigure=lambda new: tunnels.reconfigure(new.tunnel))
        add(stop=self.begin_drain)
        async with owners.running():
            yield {
                "readiness": self._readiness,
                "scrape": Scrape(reporter, access, settings.metrics),
                "status": Status(reporter, access, self._readiness),
                "invalidate": Invalidate(
                    authenticator,
                    Invalidations(cached.cache, cached.shared.end if cached.shared is not None else None)
                    if cached is not None
                    else None,
                    admins=self._admins(),
                    peers=self.peers,
                ),
            }

    def _telling(self, settings: Settings) -> Telling:
        return Telling(
            server_timing=settings.trace.server_timing,
            slow_statement=settings.log.slow_statement,
            trace_comment=settings.trace.comment,
            audit=settings.audit.statements != "off",
            each=self._hears_each or settings.log.requests == "all",
        )

    def _admins(self) -> frozenset[tuple[str, str]]:
        """Who may invalidate the answers of all databases of a target: (target, role)."""
        named = {(name, role) for name in self._targets.by_name for role in self._settings.admin.roles}
        return frozenset(named | {(name, each.admin.role) for name, each in self._targets.by_name.items()})

    def _make_cache(self, verdicts: Verdicts) -> CachedAnswers | None:
        """The result cache, unless it has no room."""
        settings = self._settings
        if not settings.cache.max_bytes:
            return None
        cache = ResultCache(settings.cache, self._stamps, on_evict=lambda: self._observe(Evicted()))
        cached = CachedAnswers(cache, verdicts, self._observe)
        if settings.cache.shared_url is not None:
            cached.shared = SharedStore(
                settings.cache.shared_url.get_secret_value(),
                prefix=settings.cache.shared_prefix,
                timeout=settings.cache.shared_timeout,
                heard=self._stamps.stamp,
                lost=cache.forget_all,
            )
        return cached

    def _make_watch(self) -> Watch | None:
        """What looks at Postgres, in the one worker that does."""
        settings = self._settings.watch
        if not settings.interval or (self._place is not None and self._place.number):
            return None
        webhook = None
        if settings.webhook_url is not None:
            secret = settings.webhook_secret.get_secret_value().encode() if settings.webhook_secret else None
            webhook = Webhook(post_to(settings.webhook_url.get_secret_value(), secret))
        activity = Activity(
            lambda: self._targets.default.serving,
            long_query=settings.long_query,
            keep=settings.interval,
            observe=self._observe,
        )
        return Watch(settings, activity, webhook=webhook, observe=self._observe)


def _limits(settings: Settings) -> Limits:
    return Limits(max_bytes=settings.response.max_bytes, statement_timeout=settings.statement.timeout)


def _starlette(routes: list[Route], *, lifespan: Any = None) -> Starlette:
    made = Starlette(routes=routes, lifespan=lifespan)
    made.router.redirect_slashes = False
    made.router.default = _unsupported
    return made


def create_app(
    settings: Settings,
    *,
    observe: Observer | None = None,
    place: Place | None = None,
    postgres_unix: socket.socket | None = None,
    stamps: Stamps | None = None,
) -> Gateway:
    """The gateway as an ASGI application. `place` says which of several workers this is; None: the only one. They
    share the `stamps` of the cache.
    `postgres_unix` is the TCP door's Unix socket.

    Raises:
        ConfigurationError: a connection string or a certificate in the settings cannot be used.
    """
    return Gateway(settings, observe=observe, place=place, postgres_unix=postgres_unix, stamps=stamps)


def cache_snapshot(store: Store) -> CacheSnapshot:
    """What the cache holds, its statements without their values."""
    hottest = []
    for entry in store.hottest(_HOTTEST):
        shape = fingerprint(entry.text)
        hottest.append(Hot(shape.digest, shape.text, entry.place[1], entry.hits, entry.size))
    return CacheSnapshot(store.size, len(store), tuple(hottest))


async def _unsupported(scope: Scope, receive: Receive, send: Send) -> None:
    """Neon answers what it does not know with 400 and this text, whatever the path or method."""
    if scope["type"] == "http":
        headers = {REQUEST_ID.decode(): new_request_id()}
        response = Response(NOT_SUPPORTED, status_code=400, headers=headers, media_type="application/json")
        await response(scope, receive, send)
    else:
        await WebSocketClose()(scope, receive, send)
