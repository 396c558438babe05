"""What is told of the gateway's work, and to whom: log, audit, metrics, traces, alerts."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from sqlhttp_gateway.settings.section import Seconds, Section


class LogSettings(Section):
    """What is written to stderr."""

    format: Literal["text", "json"] = Field(default="text", description="text for people, json for collectors.")
    requests: Literal["off", "errors", "all"] = Field(
        default="errors", description="Which requests get a line: none, those that failed, or every one."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    slow_statement: Seconds = Field(
        default=1.0,
        ge=0,
        description="Seconds; a statement or batch that runs longer is logged without its values; 0: none is.",
    )


class AuditSettings(Section):
    """Who ran which statement: one JSON line for each, apart from the log."""

    statements: Literal["off", "shapes", "texts"] = Field(
        default="off",
        description="off: no audit; shapes: statements without their values; texts: as they were sent, values within "
        "them included. Parameters are never written.",
    )
    file: Path | None = Field(
        default=None, description="The file that lines are added to; without it, they go to stderr."
    )


class AdminSettings(Section):
    """Who may see how the gateway does: /metrics and /status; and where, if not on the public port."""

    port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="A port of their own for /metrics, /status and the probes, in plain HTTP; the public port then has "
        "the probes alone.",
        examples=[9127],
    )
    host: str = Field(default="127.0.0.1", description="Address of that port.")
    unix_socket: Path | None = Field(
        default=None,
        description="The same on a Unix socket; whoever may connect to it may see it all.",
        examples=["/run/sqlhttp/admin.sock"],
    )
    allow_from: tuple[str, ...] = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Networks that may; a request that came through a proxy (X-Forwarded-For and the like) may not.",
    )
    roles: tuple[str, ...] = Field(
        default=(),
        description="Roles that may use the console, database sqlhttp of listen.postgres, beside the gateway's own.",
    )

    @model_validator(mode="after")
    def _are_networks(self) -> Self:
        for network in self.allow_from:
            ip_network(network)  # its message names the fault
        return self


class TraceSettings(Section):
    """Following one request from the program to Postgres."""

    server_timing: bool = Field(
        default=True, description="Whether answers have Server-Timing: milliseconds of queue, connect, execute, encode."
    )
    comment: bool = Field(
        default=False,
        description="Whether statements of sampled traces carry a comment with their traceparent to Postgres.",
    )
    opentelemetry: bool = Field(
        default=False,
        description="Whether requests become OpenTelemetry spans; needs sqlhttp[otel], set up by OTEL_ variables.",
    )


class MetricsSettings(Section):
    """What /metrics shows."""

    max_labels: int = Field(
        default=50, ge=1, description="Databases, and roles, that get a label of their own; the rest is called other."
    )
    pgbouncer: bool = Field(
        default=True, description="Whether the metrics are shown under the names of PgBouncer's exporter, too."
    )


class WatchSettings(Section):
    """Looking at Postgres's sessions: how often, and what is an alert."""

    interval: Seconds = Field(
        default=10.0, ge=0, description="Seconds between two looks at pg_stat_activity of the default target; 0: none."
    )
    connections_warning: float = Field(
        default=0.70, gt=0, le=1, description="Share of Postgres's connections in use that is a warning."
    )
    connections_critical: float = Field(default=0.85, gt=0, le=1, description="The share that is critical.")
    idle_in_transaction: int = Field(
        default=10, ge=0, description="More sessions than this idle in a transaction are a warning."
    )
    waiting: int = Field(
        default=20, ge=0, description="More sessions than this waiting for a lock, disk or the like are a warning."
    )
    long_query: Seconds = Field(default=30.0, gt=0, description="Seconds; a query that runs longer is a warning.")
    pool_wait: Seconds = Field(
        default=1.0, gt=0, description="Seconds; a request that waits longer for a connection is a warning."
    )
    webhook_url: SecretStr | None = Field(
        default=None, description="Where alerts are posted as JSON when they begin, change and end."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Key of the HMAC-SHA256 in Sqlhttp-Signature that proves a post to be the gateway's."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.connections_warning > self.connections_critical:
            raise ValueError("connections_warning is above connections_critical")
        url = self.webhook_url.get_secret_value() if self.webhook_url else None
        if url is not None and not url.startswith(("https://", "http://")):
            raise ValueError("webhook_url must begin with https:// or http://")
        return self
