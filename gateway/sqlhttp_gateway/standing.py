"""What a gateway has from its making on, whether its lifespan has begun or not: settings, observers, who may come in.

Whatever needs a loop, or asks Postgres anything, is `assembly`'s to make.
"""

import socket
from collections.abc import Sequence

from sqlhttp_gateway.cache.shared import redis_of
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.certificate import Certificate
from sqlhttp_gateway.descriptors import files, most_connections
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.origins import Origins
from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.events import Observer, each, unobserved
from sqlhttp_gateway.observe.audit import audit_observer
from sqlhttp_gateway.observe.logs import LogLines
from sqlhttp_gateway.observe.metrics import Metrics
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.observe.trace import Traces
from sqlhttp_gateway.owners import Owners
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import Settings
from sqlhttp_gateway.story import Telling


class Standing:
    """These, and which settings are in effect."""

    def __init__(
        self,
        settings: Settings,
        *,
        observe: Observer | None = None,
        place: Place | None = None,
        postgres: Sequence[socket.socket] = (),
        stamps: Stamps | None = None,
    ) -> None:
        """The arguments are those of `app.create_app`.

        Raises:
            ConfigurationError: a connection string or a certificate cannot be used, or an extra is missing.
        """
        self.settings = settings
        """Those in effect; `app` puts others here when they are read again."""
        self.owners = Owners()
        """Who of these takes up other settings."""
        self.targets = Targets(settings)
        self.place = place
        self.postgres = postgres
        self.stamps = stamps or Stamps()
        self.metrics = Metrics(settings.metrics.max_labels, before=place.before() if place else None)
        self.traces = Traces() if settings.trace.opentelemetry else None
        log = LogLines(settings.log)
        self.owners.add(reconfigure=lambda new: log.reconfigure(new.log))
        self._hears_each = observe is not None or self.traces is not None
        """Whether somebody beside the log wants to hear of each request."""
        observers: list[Observer] = [observe or log, self.metrics]
        if self.traces is not None:
            observers.append(self.traces)
        if settings.audit.statements != "off":
            observers.append(audit_observer(settings.audit))
        self.observe = each(*observers)
        self.origins = Origins(settings.request.allow_origins)
        self.peers = Peers(settings.listen)
        """Whose word about a program's address is taken, and who may come in."""
        self.owners.add(reconfigure=lambda new: self.peers.reconfigure(new.listen))
        self.owners.add(reconfigure=lambda new: self.origins.reconfigure(new.request.allow_origins))
        self.connections = connections = Connections(most_connections(settings, files().soft), self.observe)
        """Those of programs, at whichever door."""
        self.owners.add(reconfigure=lambda new: connections.reconfigure(most_connections(new, files().soft)))
        self.certificate = (
            Certificate(settings.listen, self.observe) if settings.listen.tls_certificate is not None else None
        )
        """That of both ports; None: they speak no TLS."""
        if settings.cache.shared_url is not None and settings.cache.max_bytes:
            # What cannot be used is said here once; it is made by each worker, when it begins.
            redis_of(settings.cache.shared_url.get_secret_value(), settings.cache.shared_timeout)

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that does what one has to do for all."""
        return self.place is None or not self.place.number

    @property
    def observe_once(self) -> Observer:
        """For what all workers do and one tells."""
        return self.observe if self.is_first else unobserved

    def telling(self, settings: Settings) -> Telling:
        """What is told of a request, by these settings."""
        return Telling(
            server_timing=settings.trace.server_timing,
            slow_statement=settings.log.slow_statement,
            trace_comment=settings.trace.comment,
            audit=settings.audit.statements != "off",
            each=self._hears_each or settings.log.requests == "all",
        )

    def admins(self) -> frozenset[tuple[str, str]]:
        """Who may invalidate the answers of all databases of a target: (target, role)."""
        named = {(name, role) for name in self.targets.by_name for role in self.settings.admin.roles}
        return frozenset(named | {(name, each.admin.role) for name, each in self.targets.by_name.items()})
