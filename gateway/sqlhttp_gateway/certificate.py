"""The certificate of the HTTP port and of the TCP door: loaded, and loaded again when its files have changed.

A server is given one SSL context for its life. At each handshake that context takes the newest one, so that a
certificate is changed as a whole or not at all, and connections that exist keep the one they began with.
"""

import asyncio
import contextlib
import ssl
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import CertificateLoaded, Observer
from sqlhttp_gateway.settings import ListenSettings

TLS_TIMEOUT = 10.0
"""Seconds that a handshake may take."""
TLS_GOODBYE = 1.0
"""Seconds that the other side has to answer the end of TLS: an idle program does not, and a drain would wait for it."""

Stamps = tuple[tuple[int, int, int] | None, ...]
"""What changes with the content of files."""

ALPN = "postgresql"
"""What TLS says that Postgres's wire is to follow; libpq wants to hear it where TLS begins without an SSLRequest."""


class Loaded(NamedTuple):
    """A certificate that can be used."""

    context: ssl.SSLContext
    expires_at: float
    """Unix time."""
    stamps: Stamps
    """Of its files, from before they were read: what is written meanwhile is another one."""


class Certificate:
    """The one in use now."""

    def __init__(self, settings: ListenSettings, observe: Observer) -> None:
        """
        Raises:
            ConfigurationError: the files are missing, or do not fit together.
        """
        self._settings = settings
        self._observe = observe
        self._loaded = load(settings)
        self._seen = self._loaded.stamps
        self._watching: asyncio.Task[None] | None = None
        self.context = _new_context()
        """What a server is to be given."""
        self.context.sni_callback = self._choose

    @property
    def expires_at(self) -> float:
        """Unix time after which nobody believes it any more."""
        return self._loaded.expires_at

    def start(self) -> None:
        """Begin to look after the files."""
        self._observe(CertificateLoaded(self.expires_at))
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Look after them no more."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def take(self, loaded: Loaded, settings: ListenSettings) -> None:
        """Use this one, of these settings, from the next handshake on."""
        self._seen = loaded.stamps
        self._loaded, self._settings = loaded, settings
        self._observe(CertificateLoaded(self.expires_at))

    def look(self) -> None:
        """Load it again if a file has changed. One that cannot be used is told, and the last good one stays."""
        stamps = _stamps(self._settings)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.take(load(self._settings), self._settings)
        except ConfigurationError as error:
            self._observe(CertificateLoaded(self.expires_at, fault=str(error)))

    # ── inside ──

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tls_refresh or _LOOK_AT_SETTINGS)
            if self._settings.tls_refresh:
                try:
                    await asyncio.to_thread(self.look)
                except RuntimeError as error:  # no thread is to be had; the next look may have one
                    self._observe(CertificateLoaded(self.expires_at, fault=str(error)))

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in every handshake, whether the program names a server or not."""
        connection.context = self._loaded.context


_LOOK_AT_SETTINGS = 60.0
"""Seconds after which one who does not look at the files sees that it is to look at them."""


def load(settings: ListenSettings) -> Loaded:
    """The certificate of these settings, which have one.

    Raises:
        ConfigurationError: the files are missing, or do not fit together.
    """
    # Only whoever has a certificate needs a library of several megabytes.
    from cryptography.x509 import load_pem_x509_certificate

    assert settings.tls_certificate is not None
    context, stamps = _new_context(), _stamps(settings)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=_no_password)
        expires: datetime = load_pem_x509_certificate(settings.tls_certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise ConfigurationError(
            f"listen.tls_certificate: {settings.tls_certificate} cannot be used: {error}"
        ) from None
    return Loaded(context, expires.timestamp(), stamps)


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    raise ValueError("the key is encrypted; the gateway has nobody to ask for its password")


def _new_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])  # whoever offers others, as HTTP does, goes on without
    return context


def _stamps(settings: ListenSettings) -> Stamps:
    return tuple(_stamp(path) for path in (settings.tls_certificate, settings.tls_key))


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """What changes with a file's content. Kubernetes changes a link on the way to it, which changes the inode."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None
