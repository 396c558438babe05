"""Where the gateway can be reached, by whom and through which proxies; and how it stops."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sqlhttp_gateway.settings.section import Seconds, Section


class ListenSettings(Section):
    """Where the gateway can be reached."""

    host: str = Field(default="127.0.0.1", description="Address of the HTTP port. 0.0.0.0 is every IPv4 address.")
    port: int = Field(default=4444, ge=0, le=65535, description="The HTTP port; 0 lets the system choose one.")
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that share the HTTP port; the pool bounds are divided."
    )
    keep_alive: Seconds = Field(default=75.0, gt=0, description="Seconds that an idle HTTP connection is kept open.")
    backlog: int = Field(default=2048, ge=1, description="TCP connections that may wait to be accepted.")
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Most connections of programs to one worker, over HTTP, WebSockets and the TCP door together. For "
        "one more an idle one is closed, else it is refused. Unset: 10,000, or what the limit on open files leaves.",
        examples=[5000],
    )
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


class DrainSettings(Section):
    """How the gateway stops."""

    notice: Seconds = Field(
        default=0.0, ge=0, description="Seconds after SIGTERM in which /readyz says no and requests are still taken."
    )
    grace: Seconds = Field(
        default=20.0, ge=0, description="Seconds that running requests have to finish after SIGTERM."
    )
