"""`sqlhttp health`: whether the gateway of these settings lives, or is ready, asked at an address of its own.

For container runtimes and supervisors that run a command where a balancer would send a request: they know nothing of
ports, TLS or the PROXY protocol, and the settings do. What is answered there is the business of `endpoints.probes`.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from sqlhttp_gateway.auth.grant import address_allowed
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.settings import Settings

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to ask whoever listens on every address."""
_OWN_ACCOUNT = b"PROXY UNKNOWN\r\n"
"""The PROXY protocol's word of a proxy that asks for nobody."""
_LONGEST_ANSWER = 10_000


class Address(NamedTuple):
    """Where to ask."""

    where: Path | tuple[str, int]
    """A Unix socket, or host and port."""
    speaks_tls: bool = False
    has_proxies: bool = False
    """Trusted proxies begin there with the PROXY protocol."""

    def __str__(self) -> str:
        return str(self.where) if isinstance(self.where, Path) else f"{self.where[0]} port {self.where[1]}"


def address_of(settings: Settings) -> Address:
    """The operator's own where there is one, since a gateway whose places are all taken still answers there.

    Raises:
        ConfigurationError: the system chooses the port, so that nobody knows it.
    """
    listen, admin = settings.listen, settings.admin
    if admin.unix_socket is not None:
        return Address(admin.unix_socket)
    if admin.port:
        return Address((_ANY.get(admin.host, admin.host), admin.port))
    if listen.unix_socket is not None:
        return Address(listen.unix_socket)
    if not listen.port:
        raise ConfigurationError("listen.port: 0 lets the system choose one, so that nobody can ask there")
    return Address(
        (_ANY.get(listen.host, listen.host), listen.port),
        speaks_tls=listen.tls_certificate is not None and listen.https,
        has_proxies="http" in listen.proxy_protocol,
    )


def health(settings: Settings, *, path: str, timeout: float) -> int:
    """Ask and print what came; the exit status, which is 0 for yes and 1 for no, or for no answer.

    `timeout` is in seconds, for each step of it: the connection, TLS, the answer.

    Raises:
        ConfigurationError: there is no address to ask at.
    """
    address = address_of(settings)
    try:
        status, text = _asked(address, settings, path, timeout)
    except (OSError, HTTPException, UnicodeError) as error:  # the last of a host that is no name
        print(f"{address}: {error or type(error).__name__}")
        return 1
    print(f"{address}: {status} {text}")
    return 0 if status == 200 else 1


def _asked(address: Address, settings: Settings, path: str, timeout: float) -> tuple[int, str]:
    with _connected(address, settings, timeout) as connection:
        asking = HTTPConnection("localhost")
        asking.sock = connection
        asking.request("GET", path, headers={"Connection": "close"})
        answer = asking.getresponse()
        return answer.status, answer.read(_LONGEST_ANSWER).decode("utf-8", "replace").strip()


@contextmanager
def _connected(address: Address, settings: Settings, timeout: float) -> Iterator[socket.socket]:
    """A connection on which HTTP can begin."""
    where = address.where
    if isinstance(where, Path):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(where))
            yield connection
        return
    with socket.create_connection(where, timeout=timeout) as connection:
        if address.has_proxies and address_allowed(settings.listen.trusted_proxies, connection.getsockname()[0]):
            connection.sendall(_OWN_ACCOUNT)
        if not address.speaks_tls:
            yield connection
            return
        # It asks itself and shows no secret; the certificate is for names that are not this address.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(connection) as tls:
            yield tls
