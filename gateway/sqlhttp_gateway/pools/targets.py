"""The Postgres servers the gateway knows, and which of them a connection string means.

A caller's host and port only choose among these: a host that nobody configured never becomes an address to connect to.
A target may be several servers, a primary and its replicas; its first one stands for all of them here.
"""

import os
import pwd
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import SecretStr

from sqlhttp_gateway.errors import ConfigurationError, InvalidConnectionString
from sqlhttp_gateway.model import Dsn, Target
from sqlhttp_gateway.neon.dsn import dsn_from_url
from sqlhttp_gateway.neon.hosts import Wanted, split_hosts
from sqlhttp_gateway.pools.client_check import ClientCheck
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.settings import PoolSettings, Settings, per_worker

DEFAULT = "default"
SslChoice = ssl.SSLContext | str | bool
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_LIBPQ_ROOT = Path("~/.postgresql/root.crt")
"""Where libpq looks for who may have signed the server's certificate; without it here the system's store is asked."""
_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path: sun_path has 108 on Linux, one of which ends it."""
_DIGITS = 9
"""Of a number in a connection string; one that no timer or gate can count would fail far from here."""
_REFUSED = {"channel_binding": "only prefer and disable are possible here"}


@dataclass(frozen=True, slots=True)
class Upstream:
    """A target with all that is needed to open connections to it."""

    target: Target
    admin: Dsn
    """Its configured connection string: the gateway's own role there."""
    ssl: SslChoice
    server_settings: dict[str, str]
    """Start-up parameters of every connection; RESET ALL comes back to these."""
    pool: PoolSettings
    is_pooler: bool = False
    """The server is itself a transaction pooler: no named statements, no start-up parameters."""
    client_check: ClientCheck | None = field(default=None, compare=False)
    """The server is asked to look whether the gateway is still there; None: it is not."""
    session_jwt: bool = False
    """Connections are opened with a key for pg_session_jwt, in case that is installed."""
    group: Group | None = None
    """All servers of the target, this one among them; None for a target with one."""

    @property
    def serving(self) -> "Upstream":
        """The server for the gateway's own questions, as of now."""
        return self if self.group is None else self.group.serving

    @property
    def servers(self) -> "list[Upstream]":
        """All servers of the target, in the order of the settings."""
        return [self] if self.group is None else list(self.group.upstreams.values())


class Targets:
    """All upstreams by name, and the choice among them."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            ConfigurationError: a connection string has a parameter that cannot be honoured, or there is none at all.
        """
        if settings.database_url is None:
            raise ConfigurationError(
                "database_url is not set: give DATABASE_URL=postgres://role:password@host/database"
            )
        if DEFAULT in settings.targets:  # it would take the place of the database that everybody means
            raise ConfigurationError(f"targets.{DEFAULT}: so the target of database_url is called; take another name")
        pool = per_worker(settings.pool, settings.listen.workers)
        timeout = settings.statement.timeout
        session_jwt = bool(settings.issuers) and settings.auth.claims in {"auto", "signed"}
        self.by_name: dict[str, Upstream] = {}
        self._by_host: dict[str, Upstream] = {}
        named: dict[str, str] = {}
        self._refuse_unknown = settings.unknown_host == "refuse"
        urls = {DEFAULT: settings.database_url} | {name: each.url for name, each in settings.targets.items()}
        replicas = {DEFAULT: settings.replicas} | {name: each.replicas for name, each in settings.targets.items()}
        aliases = {DEFAULT: settings.aliases} | {name: each.aliases for name, each in settings.targets.items()}
        self.groups: list[Group] = []
        """The targets that have several servers."""
        for name, url in urls.items():
            wanted, servers = server_urls(name, url.get_secret_value(), replicas[name])
            group = Group(name, wanted, settings.replica) if len(servers) > 1 or wanted is not Wanted.ANY else None
            for server, server_url in servers.items():
                upstream = upstream_from_url(
                    server,
                    server_url,
                    pool=pool,
                    workers=settings.listen.workers,
                    statement_timeout=timeout,
                    of_target=name,
                )
                if session_jwt and not upstream.is_pooler:
                    upstream = replace(upstream, session_jwt=True)
                if group is not None:
                    upstream = replace(upstream, group=group)
                    group.join(upstream)
                if server == name:
                    self.by_name[name] = upstream
                elif server in urls:
                    raise ConfigurationError(f"there is a target {server}, as a server of target {name} is called")
            if group is not None:
                self.groups.append(group)
            upstream = self.by_name[name]
            for host in {name.lower(), *(alias.lower() for alias in aliases[name])}:
                if host in named:
                    raise ConfigurationError(f"targets {named[host]} and {name} both go by the name {host}")
                named[host] = name
                self._by_host[host] = upstream
        # Names and aliases come first: two targets may well be the same server, seen by two of its connection strings.
        for upstream in self.by_name.values():
            for each in upstream.servers:
                target = each.target
                self._by_host.setdefault(f"{target.host}:{target.port}".lower(), upstream)
                self._by_host.setdefault(target.host.lower(), upstream)
        self.default = self.by_name[DEFAULT]

    def become(self, other: "Targets") -> None:
        """Know what `other` knows, from now on; whoever chooses sees all of the old or all of the new."""
        self.by_name, self._by_host, self.default, self._refuse_unknown = (
            *(other.by_name, other._by_host, other.default, other._refuse_unknown),
        )
        self.groups = other.groups

    @property
    def by_server(self) -> "dict[str, Upstream]":
        """All servers of all targets, by their own names."""
        return {each.target.name: each for upstream in self.by_name.values() for each in upstream.servers}

    @property
    def places(self) -> "dict[str, list[Target]]":
        """Where each target leads: its servers, in the order of the settings."""
        return {name: [each.target for each in upstream.servers] for name, upstream in self.by_name.items()}

    def choose(self, dsn: Dsn) -> Upstream:
        """The upstream that the host and port of a caller's connection string mean.

        Raises:
            InvalidConnectionString: the host is no target's and `unknown_host` is "refuse".
        """
        if not self._refuse_unknown and len(self.by_name) == 1:
            return self.default
        found = self.find(dsn)
        if found is not None:
            return found
        if self._refuse_unknown:
            raise InvalidConnectionString(
                "the host of the connection string is not a target of this gateway",
                hint="Name it in the settings as a target or an alias.",
            )
        return self.default

    def find(self, dsn: Dsn) -> Upstream | None:
        """The upstream that the host and port name; None when they name none."""
        host = dsn.host.lower()
        return self._by_host.get(f"{host}:{dsn.port}") or self._by_host.get(host)


def server_urls(name: str, url: str, replicas: Sequence[SecretStr]) -> tuple[Wanted, dict[str, str]]:
    """The servers of a target, each with a name and a connection string of its own, and which of them are wanted.

    The first has the target's name, the others that and their number.

    Raises:
        ConfigurationError: a list of hosts and ports is malformed.
    """
    try:
        urls, wanted = split_hosts(url)
        for each in replicas:
            more, _ = split_hosts(each.get_secret_value())
            urls += more
    except InvalidConnectionString as error:
        raise ConfigurationError(f"{_where(name)}: {error}") from None
    return wanted, {name if not number else f"{name}-{number + 1}": each for number, each in enumerate(urls)}


def _where(name: str) -> str:
    return "database_url" if name == DEFAULT else f"targets.{name}.url"


def upstream_from_url(
    name: str, url: str, *, pool: PoolSettings, workers: int, statement_timeout: float, of_target: str | None = None
) -> Upstream:
    """An upstream from its connection string; parameters with libpq's and Prisma's names are honoured or refused.

    Raises:
        ConfigurationError: the string, one of its parameters or a parameter's value cannot be used.
    """
    where = _where(of_target or name)
    try:
        dsn = dsn_from_url(url, account=_account())
    except Exception as error:
        raise ConfigurationError(f"{where}: {error}") from None
    target = Target(name, dsn.host, dsn.port or 5432)
    if target.is_socket and (length := len(os.fsencode(target.place))) > _LONGEST_SOCKET:
        raise ConfigurationError(
            f"{where}: the path of the Unix socket has {length} bytes; {_LONGEST_SOCKET} are possible"
        )
    given = dict(dsn.parameters)
    mode = given.pop("sslmode", "prefer")
    if mode not in _SSL_MODES:
        raise ConfigurationError(f"{where}: sslmode must be one of {', '.join(_SSL_MODES)}")
    root, own = given.pop("sslrootcert", None), (given.pop("sslcert", None), given.pop("sslkey", None))
    # By a Unix socket there is no TLS, and libpq ignores what is said of it.
    context = False if target.is_socket else _ssl_choice(where, mode, root=root, own=own)
    is_pooler = _boolean(where, "pgbouncer", given.pop("pgbouncer", "false"))
    startup = {"application_name": given.pop("application_name", "sqlhttp")}
    for parameter in ("options", "search_path"):
        if parameter in given:
            startup[parameter] = given.pop(parameter)
    if is_pooler:
        refused = sorted(set(startup) - {"application_name"})
        if refused:
            raise ConfigurationError(f"{where}: {refused[0]} cannot be used with pgbouncer=true")
    elif statement_timeout:
        startup["statement_timeout"] = str(max(1, round(statement_timeout * 1000)))  # 0 would be none at all
    changes: dict[str, float | int] = {}
    if "connection_limit" in given:
        limit = _number(where, "connection_limit", given.pop("connection_limit"))
        if limit < workers:
            raise ConfigurationError(f"{where}: connection_limit must be at least listen.workers ({workers})")
        changes["max_size"] = limit // workers
        changes["min_size"] = min(pool.min_size, limit // workers)
    if "pool_timeout" in given:
        changes["wait_timeout"] = float(_number(where, "pool_timeout", given.pop("pool_timeout")))
    if "connect_timeout" in given:
        changes["connect_timeout"] = float(_number(where, "connect_timeout", given.pop("connect_timeout")))
    if is_pooler:
        changes["statement_cache_size"] = 0
    if given.get("channel_binding") in {"prefer", "disable"}:
        del given["channel_binding"]
    for parameter in given:
        reason = _REFUSED.get(parameter, "the gateway does not know it")
        raise ConfigurationError(f"{where}: the parameter {parameter} cannot be honoured: {reason}")
    return Upstream(
        target=target,
        admin=dsn,
        ssl=context,
        server_settings=startup,
        pool=pool.model_copy(update=changes),
        is_pooler=is_pooler,
        client_check=ClientCheck(pool.client_check_interval) if pool.client_check_interval and not is_pooler else None,
    )


def _account() -> str:
    """The name of this process's account, which is the role that libpq takes where none is given; empty without one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _ssl_choice(where: str, mode: str, *, root: str | None, own: tuple[str | None, str | None]) -> SslChoice:
    """`own` are the files of the gateway's own certificate and its key, for a server that asks for one."""
    if mode == "disable":
        return False
    verifies = mode in {"verify-ca", "verify-full"}
    has_own = own != (None, None)
    if has_own and mode in {"allow", "prefer"}:
        raise ConfigurationError(f"{where}: sslcert and sslkey need sslmode=require, verify-ca or verify-full")
    if root is None and not verifies and not has_own:
        return mode
    if root is None and _LIBPQ_ROOT.expanduser().is_file():
        root = str(_LIBPQ_ROOT.expanduser())
    if root in {None, "system"}:
        context = ssl.create_default_context()
    elif Path(str(root)).is_file():
        try:
            context = ssl.create_default_context(cafile=root)
        except ssl.SSLError:
            raise ConfigurationError(f"{where}: sslrootcert {root} holds no certificate") from None
    else:
        raise ConfigurationError(f"{where}: sslrootcert {root} does not exist")
    context.check_hostname = mode == "verify-full"
    if root is None and not verifies:  # as libpq's require
        context.verify_mode = ssl.CERT_NONE
    if has_own:
        _load_own(where, context, *own)
    # Python 3.13 and newer refuse certificates that lack an extension which RFC 5280 asks for, as those do that an
    # older OpenSSL has made in the way of Postgres's manual ("Creating Certificates"). libpq takes them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load_own(where: str, context: ssl.SSLContext, certificate: str | None, key: str | None) -> None:
    if certificate is None:
        raise ConfigurationError(f"{where}: sslkey is of no use without sslcert")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise ConfigurationError(f"{where}: sslcert {certificate} cannot be used: {error}") from None


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    raise ValueError("its key is encrypted, and the gateway has nobody to ask for the password")


def _number(where: str, name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or int(text) < 1:
        raise ConfigurationError(f"{where}: {name} must be a whole number above 0, of {_DIGITS} digits at most")
    return int(text)


def _boolean(where: str, name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise ConfigurationError(f"{where}: {name} must be true or false")
    return text == "true"
