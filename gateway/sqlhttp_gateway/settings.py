"""Every setting, with its default, unit and limits; frozen once read.

Order of precedence: arguments, environment (`SQLHTTP_POOL__MAX_SIZE`, and `DATABASE_URL`), TOML file, default. An
unknown key anywhere is an error that names it. The descriptions are the documentation: the example file and the
README table are made from them.
"""

import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from sqlhttp_gateway.errors import BadRequest, ConfigurationError
from sqlhttp_gateway.neon.caching import wish_from_words

PREFIX = "SQLHTTP_"
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=1)]
_ALTERNATIVE: JsonDict = {"is_alternative": True}
"""Marks a setting that excludes another, so that the example file shows it as a comment within a comment."""

_SERVICE_LINK = re.compile(r"_SERVICE_(?:HOST|PORT(?:_\w+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$")


class Section(BaseModel):
    """One subject's settings: frozen, and deaf to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ListenSettings(Section):
    """Where the gateway can be reached."""

    host: str = Field(default="127.0.0.1", description="Address of the HTTP port. 0.0.0.0 is every IPv4 address.")
    port: int = Field(default=4444, ge=0, le=65535, description="The HTTP port; 0 lets the system choose one.")
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that share the HTTP port; the pool bounds are divided."
    )
    keep_alive: Seconds = Field(default=75.0, gt=0, description="Seconds that an idle HTTP connection is kept open.")
    backlog: int = Field(default=2048, ge=1, description="TCP connections that may wait to be accepted.")
    postgres: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for Postgres's own wire, 6432 by custom, for programs that speak no WebSocket; unset: none.",
        examples=[6432],
    )
    unix_socket: Path | None = Field(
        default=None,
        description="A Unix socket for HTTP, beside the port.",
        examples=["/run/sqlhttp/http.sock"],
    )
    postgres_socket_directory: Path | None = Field(
        default=None,
        description="Directory for a Unix socket beside listen.postgres, named as libpq expects: psql -h DIRECTORY.",
        examples=["/run/sqlhttp"],
    )
    unix_socket_mode: str = Field(
        default="0770", pattern="^0?[0-7]{3}$", description="Who may connect to the Unix sockets, as for chmod."
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with the certificate of both ports, and those above it. Unset: no TLS.",
        examples=["tls.crt"],
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file with its key, if that is a file of its own.", examples=["tls.key"]
    )
    tls_refresh: Seconds = Field(
        default=60.0, ge=0, description="Seconds between two looks whether those files changed; 0: only at SIGHUP."
    )
    https: bool = Field(
        default=True,
        description="Whether the HTTP port speaks TLS where there is a certificate; not where a balancer does it.",
    )
    scram: bool = Field(
        default=False,
        description="Whether listen.postgres asks roles whose password the gateway holds (logins, its own) to prove "
        "theirs by SCRAM-SHA-256; keys and tokens for such a role cannot be shown there then.",
    )
    cleartext_password: bool = Field(
        default=False, description="Whether listen.postgres takes passwords without TLS from other machines, too."
    )
    allow_from: tuple[str, ...] = Field(
        default=(),
        description="Addresses and networks that may use the gateway at all, on both ports; none: everybody.",
        examples=[["10.0.0.0/8"]],
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses and networks of proxies that are believed for whom they ask; unix: on a Unix socket.",
        examples=[["10.0.0.10", "unix"]],
    )
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for",
        description="The header in which they say it over HTTP; the other one, anybody could have sent.",
    )
    proxy_protocol: tuple[Literal["http", "postgres"], ...] = Field(
        default=(),
        description="Ports on which every connection of theirs begins with the PROXY protocol, version 1 or 2.",
        examples=[["postgres"]],
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.tls_key is not None and self.tls_certificate is None:
            raise ValueError("tls_key is of no use without tls_certificate")
        for network in (*self.allow_from, *self.trusted_proxies):
            if network != "unix" or network in self.allow_from:
                ip_network(network)  # its message names the fault
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: it is spoken with those alone")
        if self.postgres_socket_directory is not None and not self.postgres:
            raise ValueError("postgres_socket_directory needs listen.postgres, whose number is in the socket's name")
        return self


class PoolSettings(Section):
    """How many connections, and how long to wait for one."""

    max_size: int = Field(default=10, ge=1, description="Most connections to one (target, database, role).")
    min_size: int = Field(
        default=0, ge=0, description="Idle connections kept open to each (target, database, role) in use."
    )
    max_total: int = Field(default=50, ge=1, description="Most connections over all pools together.")
    wait_timeout: Seconds = Field(default=5.0, gt=0, description="Seconds that a request may wait for a connection.")
    max_waiting: int = Field(
        default=1000, ge=0, description="Requests that may wait for one pool; one more is refused at once."
    )
    pause_limit: Seconds = Field(
        default=60.0,
        gt=0,
        description="Seconds that a request may wait for RESUME, beside wait_timeout, while its database is paused.",
    )
    idle_timeout: Seconds = Field(
        default=300.0, gt=0, description="Seconds after which an unused connection is closed."
    )
    max_lifetime: Seconds = Field(
        default=3600.0, gt=0, description="Seconds after which a connection is replaced, less up to a tenth by chance."
    )
    connect_timeout: Seconds = Field(default=5.0, gt=0, description="Seconds that opening one connection may take.")
    statement_cache_size: int = Field(
        default=200,
        ge=0,
        description="Named prepared statements kept on each connection; 0 for an upstream transaction pooler.",
    )

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size ({self.min_size}) is above max_size ({self.max_size})")
        return self


class BreakerSettings(Section):
    """When a server that cannot be reached is given up, until it can be reached again."""

    failures: int = Field(
        default=5,
        ge=0,
        description="Connections in a row that could not be opened, after which requests that need one are refused at "
        "once with 503; 0: they never are.",
    )
    probe_interval: Seconds = Field(
        default=0.25,
        ge=0.01,
        description="Seconds, up to a half more or less by chance, between two tries in the background meanwhile.",
    )


class RequestSettings(Section):
    """What a request may be."""

    max_bytes: Bytes = Field(
        default=10_485_760, description="Most bytes of a request's body; more is answered with 413."
    )
    read_timeout: Seconds = Field(
        default=30.0, gt=0, description="Seconds in which a request's body must have arrived."
    )
    deadline: Seconds = Field(
        default=0.0,
        ge=0,
        description="Most seconds from a request's last byte to its answer, waiting included; Sqlhttp-Timeout asks for "
        "less. 0: any. It costs each request a timer.",
    )
    allow_origins: tuple[str, ...] = Field(
        default=("*",),
        description="Origins of web pages that may use the gateway: * is any, local those of this machine, "
        "https://*.example.com every name below one.",
        examples=[["https://app.example.com"]],
    )


class ResponseSettings(Section):
    """What an answer may be."""

    max_bytes: Bytes = Field(
        default=10_485_760, description="Most bytes of rows in one answer; more is cancelled and answered with 507."
    )


class StatementSettings(Section):
    """What a statement may take."""

    timeout: Seconds = Field(default=60.0, ge=0, description="Seconds that one statement may run; 0 sets no limit.")
    cancel_timeout: Seconds = Field(
        default=5.0, gt=0, description="Seconds that Postgres has to confirm a cancel before the connection is dropped."
    )


class AuthSettings(Section):
    """How a caller's password is proven."""

    proof_lifetime: Seconds = Field(
        default=30.0, ge=0, description="Seconds that a proven password is believed; a changed one may work that long."
    )
    verify_by: Literal["auto", "verifier", "login"] = Field(
        default="auto",
        description="verifier: compare with pg_authid; login: log in to Postgres; auto: the first if allowed.",
    )

    failures: int = Field(
        default=10,
        ge=0,
        description="Wrong passwords for one role from one address, in a row and at one worker, after which none is "
        "looked at for a while; 0: any number.",
    )
    failures_within: Seconds = Field(default=150.0, gt=0, description="Seconds within which they count together.")
    failures_refused: Seconds = Field(
        default=120.0, gt=0, description="That while, in seconds. Passwords that were right lately are looked at still."
    )
    keys_table: bool = Field(
        default=False,
        description="Whether API keys are also kept in sqlhttp.api_keys, a table in the default target's database.",
    )
    tenants_table: bool = Field(
        default=False,
        description="Whether tenants are also kept in sqlhttp.tenants, a table in the default target's database.",
    )
    keys_refresh: Seconds = Field(
        default=10.0, gt=0, description="Seconds between two looks at these tables; a revoked key may work that long."
    )
    jwt_leeway: Seconds = Field(
        default=30.0, ge=0, description="Seconds that a token's exp and nbf may be off, for clocks that differ."
    )
    jwks_max_age: Seconds = Field(
        default=300.0, gt=0, description="Seconds after which an issuer's keys are fetched again, in the background."
    )
    jwks_pause: Seconds = Field(
        default=30.0, gt=0, description="Least seconds between two fetches, however many unknown key ids come."
    )
    jwks_max_stale: Seconds = Field(
        default=86_400.0, gt=0, description="Seconds that an issuer's last keys are used while they cannot be fetched."
    )
    jwks_timeout: Seconds = Field(default=5.0, gt=0, description="Seconds that fetching an issuer's keys may take.")
    jwks_insecure: bool = Field(
        default=False, description="Whether jwks_url may begin with http://, which is for tests on one machine."
    )
    claims: Literal["auto", "signed", "plain", "off"] = Field(
        default="auto",
        description="How a token's claims reach policies. signed: by pg_session_jwt or the functions of sqlhttp auth "
        "install alone; auto: by them where they are installed, and for listed statements also as request.jwt.claims; "
        "plain: as that for all, which whoever sends SQL can forge; off: not.",
    )
    set_role: Literal["listed", "any"] = Field(
        default="listed",
        description="Which callers may have a login that is not their role. listed: those who run listed statements "
        "alone; any: all, though whoever sends SQL can leave the role by RESET ROLE for any other of the login's.",
    )


class IdempotencySettings(Section):
    """Writes that carry an Idempotency-Key."""

    lifetime: Seconds = Field(
        default=86_400.0, gt=0, description="Seconds that a key's answer is kept; later it is a new key."
    )
    wait: Seconds = Field(
        default=5.0, ge=0, description="Seconds that a request waits for another with its key; then it gets 409."
    )
    max_answer_bytes: Bytes = Field(
        default=1_048_576, description="Most bytes of an answer that is kept; a write with a larger one is rolled back."
    )
    create: bool = Field(
        default=True,
        description="Whether the gateway's own role makes the table, schema sqlhttp, in a database at its first key.",
    )


class AllowanceSettings(Section):
    """What one tenant may take: an API key, a token's subject, or a role."""

    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="Most requests, and transactions of tunnels, that may run at once.",
        examples=[5],
    )
    max_waiting: int | None = Field(
        default=None, ge=0, description="Most requests that may wait; one more is refused at once.", examples=[20]
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Requests, and transactions of tunnels, a second.",
        examples=[50],
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        description="How many of them may come at once after a pause; without it, as many as in a second.",
        examples=[100],
    )
    statement_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        description="Seconds that one statement of /sql may run, where statement.timeout is not less.",
        examples=[10],
    )
    max_response_bytes: Bytes | None = Field(
        default=None,
        description="Most bytes of rows in one answer of /sql, where response.max_bytes is not less.",
        examples=[1_048_576],
    )


class LimitsSettings(AllowanceSettings):
    """What one tenant may take, an API key, a token's subject or a role, where nothing else is said of it."""

    roles: dict[str, AllowanceSettings] = Field(
        default={}, description="The same for single roles by name: [limits.roles.NAME], with the names above."
    )


class LoginSettings(Section):
    """A role as which the gateway logs in for callers who show an API key or a token in place of its password."""

    role: str = Field(description="The role.", min_length=1)
    password: SecretStr = Field(description="Its password.")
    target: str = Field(default="default", description="The target whose role it is.")


class KeySettings(AllowanceSettings):
    """An API key, under the id that `sqlhttp keys create --print` gave it."""

    hash: SecretStr = Field(description="sha256: and 64 hex digits, of the whole key.", examples=["sha256:" + 64 * "0"])
    database: str = Field(description="The database it opens.", min_length=1)
    role: str = Field(description="The role it is for.", min_length=1)
    login: str | None = Field(
        default=None,
        description="The role to log in as and to become the other by SET LOCAL ROLE, as PostgREST's authenticator "
        "does; without it, the role itself.",
        examples=["authenticator"],
    )
    target: str = Field(default="default", description="The target it opens.")
    name: str = Field(default="", description="What people call it.")
    expires_at: AwareDatetime | None = Field(
        default=None,
        description="When it ends, in UTC or with an offset; without it, never.",
        examples=["2030-01-31T00:00:00Z"],
    )
    origins: tuple[str, ...] = Field(
        default=(), description="Origins of the pages that may use it, such as https://app.example; none: anybody."
    )
    addresses: tuple[str, ...] = Field(
        default=(), description="Addresses, networks a/b or ranges a-b that it may come from; none: everywhere."
    )
    read_only: bool = Field(default=False, description="Whether its transactions are read only.")
    statements: tuple[str, ...] | None = Field(
        default=None,
        description="SHA-256 of the only statements it may run, as sqlhttp lock prints; without it, any.",
        examples=[[64 * "0"]],
    )

    @model_validator(mode="after")
    def _are_hashes(self) -> Self:
        if not re.fullmatch("sha256:[0-9a-f]{64}", self.hash.get_secret_value()):
            raise ValueError("hash must be sha256: and 64 hex digits")
        if not all(re.fullmatch("[0-9a-f]{64}", each) for each in self.statements or ()):
            raise ValueError("statements must be SHA-256 digests of 64 hex digits")
        return self


Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"]


class IssuerSettings(AllowanceSettings):
    """Somebody whose signed tokens (JWT) are good here."""

    jwks_url: str | None = Field(
        default=None,
        description="Where its public keys are; one of jwks_url, jwks_file and secret is needed.",
        examples=["https://issuer.example/.well-known/jwks.json"],
    )
    jwks_file: Path | None = Field(
        default=None, description="A file with its public keys, in the same form.", json_schema_extra=_ALTERNATIVE
    )
    secret: SecretStr | None = Field(
        default=None,
        description="The secret it signs with by HS256, of 32 bytes or more.",
        json_schema_extra=_ALTERNATIVE,
    )
    issuer: str | None = Field(default=None, description="What iss has to be; without it, that is not looked at.")
    audience: str | None = Field(
        default=None, description="What aud has to be or to contain; without it, that is not looked at."
    )
    roles: tuple[str, ...] = Field(
        description="Roles its tokens are good for.", min_length=1, examples=[["authenticated"]]
    )
    role_claim: str | None = Field(
        default=None, description="The claim that names the role; without it, the connection string does."
    )
    login: str | None = Field(
        default=None,
        description="The role to log in as and to become the token's by SET LOCAL ROLE, as PostgREST's authenticator "
        "does; without it, the token's role itself.",
        examples=["authenticator"],
    )
    target: str = Field(default="default", description="The target its tokens open.")
    databases: tuple[str, ...] = Field(default=(), description="Databases its tokens open; none: any.")
    database_claim: str | None = Field(
        default=None, description="The claim that names the database; without it, the connection string does."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"),
        description="Algorithms it signs with; with a secret, HS256 alone.",
        min_length=1,
    )
    read_only: bool = Field(default=False, description="Whether its callers' transactions are read only.")
    statements: tuple[str, ...] | None = Field(
        default=None,
        description="SHA-256 of the only statements its callers may run, as sqlhttp lock prints; without it, any.",
        examples=[[64 * "0"]],
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.jwks_url, self.jwks_file, self.secret)) != 1:
            raise ValueError("one of jwks_url, jwks_file and secret is needed, and no more")
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < 32:
            raise ValueError("secret must have 32 bytes or more")
        if self.jwks_url is not None:
            parts = urlsplit(self.jwks_url)
            if parts.scheme not in {"https", "http"} or not parts.hostname or "@" in parts.netloc or parts.fragment:
                raise ValueError("jwks_url must be https://, with a host, and without a user or a fragment")
        if not all(re.fullmatch("[0-9a-f]{64}", each) for each in self.statements or ()):
            raise ValueError("statements must be SHA-256 digests of 64 hex digits")
        return self


class TargetSettings(Section):
    """One more Postgres server that a connection string may choose."""

    url: SecretStr = Field(description="Its connection string, as for database_url.")
    aliases: tuple[str, ...] = Field(
        default=(), description="Host or host:port of connection strings that mean this target."
    )
    replicas: tuple[SecretStr, ...] = Field(default=(), description="More of its servers, as for replicas above.")


class ReplicaSettings(Section):
    """Targets of several servers: how they are looked at, and what a replica gets."""

    probe_interval: Seconds = Field(
        default=0.3, gt=0, le=60, description="Seconds between two looks at each server of a target that has several."
    )
    probe_timeout: Seconds = Field(default=1.0, gt=0, description="Seconds that a look may take until it has failed.")
    max_lag: Seconds = Field(
        default=10.0, ge=0, description="Seconds that a replica may be behind; one that is more gets nothing; 0: any."
    )
    bookmark_wait: Seconds = Field(
        default=1.0, ge=0, description="Seconds that a read waits for a replica to reach its bookmark."
    )
    failures: int = Field(
        default=3, ge=1, description="Failures in a row after which a server gets no reads for a while."
    )
    failure_pause: Seconds = Field(default=5.0, gt=0, description="That while, in seconds.")
    selects: bool = Field(
        default=False,
        description="Whether single statements whose plan, as Postgres makes it, changes and locks nothing go to "
        "replicas, too; a program that keeps no bookmarks may then not see its own last write.",
    )


class TenantSettings(AllowanceSettings):
    """Names by which callers mean a database that is called otherwise, or is on another target; and what it may take.

    In `target` and `database` stands {name} for what * stood for, else for the first label of the host, or for the
    name of the database.
    """

    hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts, of requests or in connection strings, that mean it; *.db.example is every one with one "
        "label in front.",
        examples=[["acme.example", "*.db.example"]],
    )
    databases: tuple[str, ...] = Field(
        default=(), description="Names in connection strings that mean its database.", examples=[["acme"]]
    )
    target: str = Field(default="default", description="The target it is on; {name} in it is the name that was used.")
    database: str | None = Field(
        default=None,
        description="The database, with {name} as in target; without it, as the connection string has it.",
        examples=["tenant_{name}"],
    )

    @model_validator(mode="after")
    def _are_names(self) -> Self:
        for host in self.hosts:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", host):
                raise ValueError(f"{host} is neither a host without a port nor *. and one")
        return self


class DrainSettings(Section):
    """How the gateway stops."""

    notice: Seconds = Field(
        default=0.0, ge=0, description="Seconds after SIGTERM in which /readyz says no and requests are still taken."
    )
    grace: Seconds = Field(
        default=20.0, ge=0, description="Seconds that running requests have to finish after SIGTERM."
    )


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


class TunnelSettings(Section):
    """Programs that speak Postgres's own wire, over a WebSocket or the TCP door."""

    pool_mode: Literal["transaction", "session"] = Field(
        default="transaction", description="How long a backend stays with a program that does not choose for itself."
    )
    role_pool_mode: dict[str, Literal["transaction", "session"]] = Field(
        default={}, description="The same for single roles, by name; goes before the database's."
    )
    database_pool_mode: dict[str, Literal["transaction", "session"]] = Field(
        default={}, description="The same for single databases, by name."
    )
    max_open: int = Field(default=10_000, ge=1, description="Most programs connected to one worker.")
    max_pinned: int = Field(
        default=5, ge=0, description="Most connections of one pool that may stay with a program beyond a transaction."
    )
    startup_timeout: Seconds = Field(default=15.0, gt=0, description="Seconds in which a program must have logged in.")
    send_timeout: Seconds = Field(
        default=30.0, gt=0, description="Seconds after which a program that does not read its answers is cut off."
    )
    linger: Seconds = Field(
        default=0.05,
        ge=0,
        description="Seconds that a connection which nobody else wants stays with the program that used it last, whose "
        "next transaction then needs no hand-over; 0: none.",
    )
    max_message_bytes: Bytes = Field(
        default=67_108_864, description="Most bytes of one WebSocket message; longer traffic is sent in several."
    )
    buffer_bytes: Bytes = Field(
        default=1_048_576, description="Bytes kept for a program in each direction before the other side has to wait."
    )
    idle_in_transaction_timeout: Seconds = Field(
        default=60.0, ge=0, description="Seconds that a transaction may be open with nothing happening in it; 0: any."
    )
    transaction_timeout: Seconds = Field(
        default=0.0, ge=0, description="Seconds that a transaction may be open at all; 0: any."
    )
    client_idle_timeout: Seconds = Field(
        default=0.0, ge=0, description="Seconds that a program without a transaction may say nothing; 0: any."
    )
    pinned_idle_timeout: Seconds = Field(
        default=300.0, ge=0, description="The same for a program that keeps a backend beyond a transaction; 0: any."
    )


class CacheSettings(Section):
    """Answers that are kept for those who ask for it."""

    max_bytes: int = Field(
        default=67_108_864, ge=0, description="Bytes of answers that each worker keeps; 0: there is no cache."
    )
    max_entry_bytes: Bytes = Field(default=1_048_576, description="Most bytes of one answer that is kept.")
    max_ttl: Seconds = Field(default=86_400.0, gt=0, description="Most seconds that a request may ask for as ttl.")
    max_swr: Seconds = Field(
        default=86_400.0, ge=0, description="Most seconds beyond ttl in which a stale answer may be asked for."
    )
    max_fetching: int = Field(
        default=1000, ge=1, description="Statements that may run for the cache at once; one more runs as without it."
    )
    plan_lifetime: Seconds = Field(
        default=60.0,
        gt=0,
        description="Seconds for which it is remembered what a statement reads and writes; for that long the cache may "
        "not know of a trigger or view that was changed past the gateway.",
    )
    listen: bool = Field(
        default=True,
        description="Whether each worker listens to NOTIFY sqlhttp_invalidate, over one connection for each database "
        "of which it keeps answers.",
    )
    shared_url: SecretStr | None = Field(
        default=None,
        description="redis://… of a Valkey or Redis in which all gateways share their answers; needs sqlhttp[redis].",
        examples=["redis://localhost:6379/0"],
    )
    shared_prefix: str = Field(default="sqlhttp:", description="What the names of its keys begin with.")
    shared_timeout: Seconds = Field(
        default=0.1, gt=0, description="Seconds that it has to answer; after that it is not asked until it is back."
    )
    shared_staleness: Seconds = Field(
        default=5.0,
        ge=0,
        description="Seconds for which a gateway goes on giving an answer from its own memory while it cannot hear "
        "what others invalidate.",
    )
    key_defaults: dict[str, str] = Field(
        default={},
        description="What requests with an API key ask for when they say nothing, by the key's id.",
        examples=[{"8f3a": "ttl=60 swr=30 tags=a,b"}],
    )
    role_defaults: dict[str, str] = Field(default={}, description="The same by role; a key's goes before it.")
    database_defaults: dict[str, str] = Field(default={}, description="The same by database; a role's goes before it.")

    @model_validator(mode="after")
    def _defaults_can_be_read(self) -> Self:
        for section in ("key_defaults", "role_defaults", "database_defaults"):
            for name, words in getattr(self, section).items():
                try:
                    wish_from_words(words)
                except BadRequest as error:
                    raise ValueError(f"{section}.{name}: {error.message}") from None
        return self


class Settings(BaseSettings):
    """The whole of them, one section a subject."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        validate_default=True,
        case_sensitive=False,
    )

    database_url: SecretStr | None = Field(
        default=None,
        description="postgres://role:password@host:port/database of the default target. Also DATABASE_URL.",
    )
    aliases: tuple[str, ...] = Field(
        default=(), description="Hosts of connection strings that mean the default target by name."
    )
    replicas: tuple[SecretStr, ...] = Field(
        default=(),
        description="Connection strings of more servers of the default target, a primary or replicas of it; "
        "database_url may also name several hosts.",
        examples=[["postgres://role:password@replica/database"]],
    )
    targets: dict[str, TargetSettings] = Field(default={}, description="More targets, by name.")
    logins: dict[str, LoginSettings] = Field(
        default={}, description="Roles whose password the gateway holds, under any name."
    )
    keys: dict[str, KeySettings] = Field(default={}, description="API keys by their ids.")
    issuers: dict[str, IssuerSettings] = Field(default={}, description="Issuers of tokens (JWT), under any name.")
    tenants: dict[str, TenantSettings] = Field(
        default={}, description="Tenants: hosts and databases that lead to a target and a database, by name."
    )
    unknown_host: Literal["default", "refuse"] = Field(
        default="default",
        description="What a connection string with a host that is no target's gets: the default, or an error.",
    )
    listen: ListenSettings = ListenSettings()
    pool: PoolSettings = PoolSettings()
    breaker: BreakerSettings = BreakerSettings()
    request: RequestSettings = RequestSettings()
    response: ResponseSettings = ResponseSettings()
    statement: StatementSettings = StatementSettings()
    auth: AuthSettings = AuthSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    replica: ReplicaSettings = ReplicaSettings()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()
    audit: AuditSettings = AuditSettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    trace: TraceSettings = TraceSettings()
    tunnel: TunnelSettings = TunnelSettings()
    cache: CacheSettings = CacheSettings()
    watch: WatchSettings = WatchSettings()
    limits: LimitsSettings = LimitsSettings()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        targets = {"default", *self.targets}
        for section in ("logins", "keys", "issuers"):
            for name, each in getattr(self, section).items():
                if each.target not in targets:
                    raise ValueError(f"{section}.{name}.target: there is no target {each.target!r}")
                if section != "logins" and each.login and each.statements is None and self.auth.set_role != "any":
                    raise ValueError(
                        f"{section}.{name}.login needs statements beside it, since whoever sends SQL can leave a role "
                        "that was set (or set auth.set_role)"
                    )
        for name, tenant in self.tenants.items():
            if "{name}" not in tenant.target and tenant.target not in targets:
                raise ValueError(f"tenants.{name}.target: there is no target {tenant.target!r}")
        for name, issuer in self.issuers.items():
            if (issuer.jwks_url or "").startswith("http:") and not self.auth.jwks_insecure:
                raise ValueError(f"issuers.{name}.jwks_url must begin with https:// (or set auth.jwks_insecure)")
        return self

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        for name in ("max_size", "max_total"):
            bound = getattr(self.pool, name)
            if bound < self.listen.workers:
                raise ValueError(
                    f"pool.{name} ({bound}) must be at least listen.workers ({self.listen.workers}), "
                    "since every worker needs one connection"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = _toml_file
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


_toml_file: Path | None = None  # pydantic-settings builds its sources before it sees the arguments


def load_settings(*, file: Path | None = None, **given: Any) -> Settings:
    """Settings from arguments, environment and file, in this order of precedence.

    Raises:
        ConfigurationError: a key is unknown, a value is out of its range, or the file cannot be read.
    """
    global _toml_file
    if file is not None and not file.is_file():
        raise ConfigurationError(f"settings file {file} does not exist")
    unknown = unknown_environment(os.environ)
    if unknown:
        raise ConfigurationError(f"unknown setting in the environment: {', '.join(unknown)}")
    from_environment = os.environ.get("DATABASE_URL")
    if from_environment and f"{PREFIX}DATABASE_URL" not in os.environ and not given.get("database_url"):
        given["database_url"] = from_environment
    _toml_file = file
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_plain(error)) from None
    except SettingsError as error:  # only the environment has values to take apart
        raise ConfigurationError(f'{error}; a list there is JSON, such as ["one", "two"]') from None
    except (OSError, ValueError) as error:  # a TOML file that cannot be read or is no TOML
        raise ConfigurationError(f"settings file {file}: {error}") from None
    finally:
        _toml_file = None


_BY_NAME = frozenset({"targets", "tenants", "logins", "keys", "issuers"})
"""Settings that are sections of their own under names that the user chooses."""


def unknown_environment(environment: Mapping[str, str]) -> list[str]:
    """The SQLHTTP_ variables that name no setting; pydantic-settings itself would pass over them."""
    return sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and not _is_setting(name) and not _is_service_link(name, value)
    )


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made it, as it does for every service, and so for one whose name begins with sqlhttp."""
    if _SERVICE_LINK.search(name):
        return True
    return name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))


def _is_setting(variable: str) -> bool:
    path = variable[len(PREFIX) :].lower().split("__")
    if path == ["endpoint"]:  # the client's own variable
        return True
    fields: dict[str, FieldInfo] = Settings.model_fields
    for depth, name in enumerate(path):
        field = fields.get(name)
        if field is None:
            return False
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            fields = field.annotation.model_fields
        else:
            return depth == len(path) - 1 or (depth == 0 and name in _BY_NAME)
    return True


def _plain(error: ValidationError) -> str:
    """One line a fault, with the setting's name and never its value, which may be a secret."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"]) or "settings"
        what = "there is no such setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"{name}: {what.removeprefix('Value error, ')}")
    return "\n".join(lines)


def per_worker(pool: PoolSettings, workers: int) -> PoolSettings:
    """The pool bounds of one of `workers` processes, so that together they keep to the bounds as set.

    The one place where a bound of the whole service becomes the bound of a process.
    """
    if workers == 1:
        return pool
    return pool.model_copy(
        update={
            "max_size": pool.max_size // workers,
            "max_total": pool.max_total // workers,
            "min_size": pool.min_size // workers,
            "max_waiting": pool.max_waiting // workers,
        }
    )


def shown(settings: Settings) -> list[tuple[str, str, str]]:
    """Name, value and default of every setting, for people who may see how the gateway does; secrets are stars."""
    lines = []
    for section, value in settings:
        if not isinstance(value, Section):
            lines.append((section, "" if value is None else str(value), ""))
            continue
        for name, field in type(value).model_fields.items():
            lines.append((f"{section}.{name}", str(getattr(value, name)), str(field.default)))
    return lines
