"""What a gateway consists of while it runs: each owner made of those before it, and the order in which they live.

What it has before that is `standing`'s; who is asked by which path, `app`'s.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from sqlhttp_gateway.auth.build import Credentials
from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.cache.invalidation import Invalidations
from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.shared import SharedStore
from sqlhttp_gateway.cache.store import Store
from sqlhttp_gateway.cached import CachedAnswers
from sqlhttp_gateway.endpoints.access import Access
from sqlhttp_gateway.endpoints.cache import Invalidate
from sqlhttp_gateway.endpoints.listener import Listener
from sqlhttp_gateway.endpoints.metrics import Scrape
from sqlhttp_gateway.endpoints.probes import Readiness
from sqlhttp_gateway.endpoints.sql import SqlEndpoint
from sqlhttp_gateway.endpoints.status import Status
from sqlhttp_gateway.endpoints.together import together
from sqlhttp_gateway.endpoints.tunnel import TunnelEndpoint
from sqlhttp_gateway.events import Evicted
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.idempotency.store import KeyStore
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.observe.activity import Activity
from sqlhttp_gateway.observe.fingerprint import remembered_fingerprint
from sqlhttp_gateway.observe.report import CacheSnapshot, Hot
from sqlhttp_gateway.observe.reporter import Reporter
from sqlhttp_gateway.observe.watch import Watch
from sqlhttp_gateway.owners import Owners
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.reads.verdicts import Verdicts
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
from sqlhttp_gateway.standing import Standing
from sqlhttp_gateway.tunnel.console import Sources
from sqlhttp_gateway.tunnel.controls import Controls
from sqlhttp_gateway.tunnel.notified import Notified
from sqlhttp_gateway.tunnel.tunnels import Tunnels

_HOTTEST = 10
"""Answers of the cache that the status page shows."""
_CANCEL_MARGIN = 5.0
"""Seconds after which a statement is over whose cancel was given up."""


class Assembly:
    """All of it, from the beginning of a lifespan to its end. To be made on the loop that it is to run on."""

    def __init__(self, standing: Standing, *, grace_left: Callable[[], float]) -> None:
        """`grace_left` says how many seconds what runs still has, once the end has begun."""
        self._standing = standing
        self._grace_left = grace_left
        self._make_ground()
        self._make_cache()
        self._make_sql()
        self._make_tunnels()
        self._make_observation()
        self.state = self._state()
        """What the endpoints behind Starlette find in a request's state."""

    # ── made, each of those before it ──

    def _make_ground(self) -> None:
        """The ways to Postgres, and who may have one."""
        standing, settings = self._standing, self._standing.settings
        self._registry = registry = PoolRegistry(
            max_total=_connections(settings),
            cancel_timeout=settings.statement.cancel_timeout,
            observe=standing.observe,
            breaker=settings.breaker,
        )
        self._passwords = Passwords(settings.auth, registry)
        self._quotas = Quotas(registry)
        self._credentials = Credentials(settings, standing.targets, registry, self._passwords)
        self._authenticator = self._credentials.authenticator
        self._probes = Probes(standing.targets.groups, standing.observe)
        self._verdicts = Verdicts(clock=standing.stamps.now, lifetime=settings.cache.plan_lifetime)
        self.readiness = Readiness(registry, standing.targets)

    def _make_cache(self) -> None:
        """The result cache, unless it has no room."""
        standing, settings = self._standing, self._standing.settings
        self._cached: CachedAnswers | None = None
        self._changes: Changes | None = None
        if not settings.cache.max_bytes:
            return
        cache = ResultCache(settings.cache, standing.stamps, on_evict=lambda: standing.observe(Evicted()))
        self._cached = cached = CachedAnswers(cache, self._verdicts, standing.observe)
        if settings.cache.shared_url is not None:
            cached.shared = SharedStore(
                settings.cache.shared_url.get_secret_value(),
                prefix=settings.cache.shared_prefix,
                timeout=settings.cache.shared_timeout,
                heard=standing.stamps.stamp,
                lost=cache.forget_all,
            )
        self._servers = standing.targets.places
        self._claims = settings.auth.claims
        self._changes = Changes(cached, settle_after=settings.statement.cancel_timeout + _CANCEL_MARGIN)

    def _make_sql(self) -> None:
        """What answers `/sql`: the service, and the quick way beside it."""
        standing, settings, registry = self._standing, self._standing.settings, self._registry
        claims, cached, changes = self._credentials.claims, self._cached, self._changes
        limits, telling = _limits(settings), standing.telling(settings)
        ways, attempts = Ways(registry, claims), Attempts(registry, claims)
        carrier = Carrier(
            attempts, registry=registry, probes=self._probes, limits=limits, observe=standing.observe, changes=changes
        )
        self._service = SqlService(
            authenticator=self._authenticator,
            quotas=self._quotas,
            ways=ways,
            routed=Routed(carrier, registry=registry, probes=self._probes, verdicts=self._verdicts),
            carrier=carrier,
            once=Once(KeyStore(OwnAccess(registry), settings.idempotency), attempts, carrier),
            consulting=Consulting(cached, ways, carrier) if cached is not None else None,
            observe=standing.observe,
            most_seconds=settings.request.deadline,
            telling=telling,
        )
        self._together = together(asyncio.get_running_loop())
        self._quick = Quick(
            tally=standing.metrics.tally,
            changes=changes,
            hits=Hits(cached, standing.metrics.hit_tally) if cached is not None else None,
            asks_cache=settings.cache.is_asked_by_default,
            authenticator=self._authenticator,
            registry=registry,
            limits=limits,
            observe=standing.observe,
            most_seconds=settings.request.deadline,
            telling=telling,
        )
        self.sql = SqlEndpoint(
            self._service,
            settings.request,
            standing.observe,
            quick=self._quick,
            peers=standing.peers,
            together=self._together,
        )

    def _make_tunnels(self) -> None:
        """What carries the Postgres wire, over WebSockets and through the TCP door; and who tells other workers."""
        standing, settings = self._standing, self._standing.settings
        place, cached, changes = standing.place, self._cached, self._changes
        self._siblings = Siblings(place.lines, place.number) if place is not None else Siblings()
        self._tunnels = tunnels = Tunnels(
            cache=cached.cache if cached is not None else None,
            tell=changes.tell if changes is not None else lambda buckets: None,
            settles_after=lambda: standing.settings.statement.cancel_timeout + _CANCEL_MARGIN,
            authenticator=self._authenticator,
            registry=self._registry,
            claims=self._credentials.claims,
            quotas=self._quotas,
            siblings=self._siblings,
            settings=settings.tunnel,
            observe=standing.observe,
            admit=standing.peers.admit,
            is_audited=lambda: standing.settings.audit.statements != "off",
        )
        self.tunnel = TunnelEndpoint(tunnels, standing.peers)
        self._listener = Listener(
            tunnels,
            settings.listen,
            certificate=standing.certificate,
            bound=standing.postgres,
            trusts=standing.peers.trusts,
            connections=standing.connections,
        )
        self._notified: Notified | None = None
        if cached is not None and changes is not None and settings.cache.listen:
            self._notified = Notified(
                cached.cache, tunnels.listeners, self._registry, standing.targets, tell=changes.tell
            )
            cached.on_fetch = self._notified.want

    def _make_observation(self) -> None:
        """Who looks on, and who may ask them."""
        standing, settings = self._standing, self._standing.settings
        certificate, cached, tunnels = standing.certificate, self._cached, self._tunnels
        self._watch = _watch(standing)
        self._reporter = reporter = Reporter(
            metrics=standing.metrics,
            registry=self._registry,
            connections_limit=_connections(settings) * settings.listen.workers,
            watch=self._watch,
            probes=self._probes,
            place=standing.place,
            certificate_expires_at=lambda: certificate.expires_at if certificate is not None else 0.0,
            cache=lambda: cache_snapshot(cached.cache.store) if cached is not None else CacheSnapshot(),
            tunnels=lambda: tunnels.connected,
            programs=standing.connections.snapshot,
        )
        self._controls = Controls(self._registry, self._siblings, reporter.whole)
        tunnels.open_console(
            Sources(
                version=build_version(),
                database=lambda: standing.targets.default.admin.database,
                roles=lambda: frozenset((standing.targets.default.admin.role, *standing.settings.admin.roles)),
                report=reporter.whole,
                now=time.time,
                registry=self._registry,
                clients=tunnels.clients,
                pool_mode=tunnels.pool_mode,
                controls=self._controls,
                settings=lambda: shown(standing.settings),
            )
        )
        self._access = Access(settings.admin.allow_from, standing.peers)

    def _state(self) -> dict[str, Any]:
        standing, cached = self._standing, self._cached
        invalidations = None
        if cached is not None:
            invalidations = Invalidations(cached.cache, cached.shared.end if cached.shared is not None else None)
        return {
            "readiness": self.readiness,
            "scrape": Scrape(
                self._reporter, self._access, standing.settings.metrics, pool_mode=self._tunnels.pool_mode
            ),
            "status": Status(self._reporter, self._access, self.readiness),
            "invalidate": Invalidate(self._authenticator, invalidations, admins=standing.admins, peers=standing.peers),
        }

    # ── while it runs ──

    def owners(self) -> Owners:
        """The table of them. The order counts: top to bottom they are started, bottom to top they are stopped."""
        standing, registry, controls = self._standing, self._registry, self._controls
        owners = Owners()
        add = owners.add
        add(reconfigure=standing.owners.reconfigure)
        if (answers := self._together) is not None:
            add(stop=answers.close)
        add(stop=self._passwords.close, reconfigure=lambda new: self._passwords.reconfigure(new.auth))
        if (traces := standing.traces) is not None:
            add(start=traces.start, stop=lambda: asyncio.to_thread(traces.stop))
        add(
            start=self._reporter.start,
            stop=self._reporter.stop,
            reconfigure=lambda new: self._reporter.reconfigure(_connections(new) * new.listen.workers),
        )
        if (watch := self._watch) is not None:
            add(
                start=lambda: watch.start(lambda: self._reporter.whole().pools),
                stop=watch.stop,
                reconfigure=lambda new: watch.reconfigure(new.watch),
            )
        if standing.certificate is not None:
            add(start=standing.certificate.start, stop=standing.certificate.stop)
        add(
            start=self._probes.start,
            stop=self._probes.stop,
            reconfigure=lambda new: self._probes.follow(standing.targets.groups),
        )
        add(
            start=registry.start,
            # What was cancelled at the end of the grace time has to hear so from Postgres.
            stop=lambda: registry.drain(max(self._grace_left(), standing.settings.statement.cancel_timeout)),
            reconfigure=lambda new: registry.apply(
                standing.targets.by_server,
                max_total=_connections(new),
                breaker=new.breaker,
                cancel_timeout=new.statement.cancel_timeout,
            ),
        )
        if (notified := self._notified) is not None:
            add(start=notified.start, stop=notified.stop, reconfigure=lambda new: notified.reconfigure())
        if (cached := self._cached) is not None:
            add(start=cached.start, stop=cached.stop, reconfigure=self._reconfigure_cache)
        credentials = self._credentials
        add(start=credentials.start, stop=credentials.stop, reconfigure=credentials.reconfigure)
        add(reconfigure=self._reconfigure_sql)
        add(reconfigure=lambda new: self._access.reconfigure(new.admin.allow_from))
        add(stop=controls.stop)
        add(start=self._siblings.start, stop=self._siblings.stop)
        if standing.place is not None and standing.place.before() is not None:
            add(start=controls.take_over)
        listener = self._listener
        add(start=listener.start, stop=listener.stop, reconfigure=lambda new: listener.reconfigure(new.listen))
        add(stop=self.drain_tunnels, reconfigure=lambda new: self._tunnels.reconfigure(new.tunnel))
        add(stop=self.begin_drain)
        return owners

    def begin_drain(self) -> None:
        """Say at /readyz that new work should go elsewhere."""
        self.readiness.is_draining = True

    async def drain_tunnels(self) -> None:
        """Let programs in a transaction finish it, for as long as there is grace, and end all tunnels."""
        self._listener.close()
        await self._tunnels.drain(self._grace_left())

    def _reconfigure_cache(self, new: Settings) -> None:
        """Keep nothing of a target that leads to other servers now, and nothing where claims go another way."""
        assert self._cached is not None
        assert self._changes is not None
        self._cached.cache.reconfigure(new.cache)
        before, self._servers = self._servers, self._standing.targets.places
        for name, servers in before.items():
            if servers != self._servers.get(name):
                self._changes.tell(self._cached.cache.moved(name))
            elif new.auth.claims != self._claims:
                self._changes.tell(self._cached.cache.invalidate_target(name))
        self._claims = new.auth.claims

    def _reconfigure_sql(self, new: Settings) -> None:
        limits, telling = _limits(new), self._standing.telling(new)
        if self._changes is not None:
            self._changes.settle_after = new.statement.cancel_timeout + _CANCEL_MARGIN
        self._service.reconfigure(limits=limits, telling=telling, most_seconds=new.request.deadline)
        self._quick.reconfigure(
            limits=limits,
            telling=telling,
            most_seconds=new.request.deadline,
            asks_cache=new.cache.is_asked_by_default,
        )
        self.sql.reconfigure(new.request)


def cache_snapshot(store: Store) -> CacheSnapshot:
    """What the cache holds, its statements without their values."""
    hottest = []
    for entry in store.hottest(_HOTTEST):
        shape = remembered_fingerprint(entry.text)
        hottest.append(Hot(shape.digest, shape.text, entry.place[1], entry.hits, entry.size))
    return CacheSnapshot(store.size, len(store), tuple(hottest))


def _connections(settings: Settings) -> int:
    """How many connections this worker may have, over all pools."""
    return per_worker(settings.pool, settings.listen.workers).max_total


def _limits(settings: Settings) -> Limits:
    return Limits(max_bytes=settings.response.max_bytes, statement_timeout=settings.statement.timeout)


def _watch(standing: Standing) -> Watch | None:
    """What looks at Postgres, in the one worker that does."""
    settings = standing.settings.watch
    if not settings.interval or not standing.is_first:
        return None
    webhook = None
    if settings.webhook_url is not None:
        from sqlhttp_gateway.observe.webhook import Webhook, post_to

        secret = settings.webhook_secret.get_secret_value().encode() if settings.webhook_secret else None
        webhook = Webhook(post_to(settings.webhook_url.get_secret_value(), secret))
    activity = Activity(
        lambda: standing.targets.default.serving,
        long_query=settings.long_query,
        keep=settings.interval,
        observe=standing.observe,
    )
    return Watch(settings, activity, webhook=webhook, observe=standing.observe)
