"""An existing pgbouncer.ini becomes settings of ours, with a note on everything that has no counterpart.

Pure text to text. A password in the file is not copied: it has no place in what is printed on a terminal.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from sqlhttp_gateway.check.pgbouncer_names import (
    CERTIFICATE,
    DEFAULTS,
    IN_CONNECTION_STRING,
    KNOWN_MODES,
    MODES,
    NUMBERS,
    ONE_PASSWORD,
    WITHOUT,
    WORDS,
    ZERO_IS_NONE,
)
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.pools.targets import DEFAULT
from sqlhttp_gateway.settings import PoolSettings

Value = str | int | float | tuple[str, ...] | Mapping[str, "Value"]
_OF_ROLES = {
    "max_user_connections": ("max_concurrent", "what the role runs at once"),
    "query_timeout": ("statement_timeout", "the role's statements at /sql, and no others"),
}
"""What of [users] is a limit here."""
_OF_DATABASES = frozenset({"host", "port", "dbname", "user", "password", "auth_user", "pool_mode", "pool_size"})
"""What of [databases] is said elsewhere."""
_PORT = 6432
"""PgBouncer's own, which its Unix socket is named after."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know: about which name of pgbouncer.ini, and what."""

    name: str
    text: str


@dataclass(slots=True)
class Translation:
    """Settings by their dotted names, and the notes."""

    settings: dict[str, Value] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def note(self, name: str, text: str) -> None:
        self.notes.append(Note(name, text))


@dataclass(frozen=True, slots=True)
class _Database:
    """One line of [databases]; `name` is what programs call it."""

    name: str
    parameters: dict[str, str]

    @property
    def host(self) -> str:
        return self.parameters.get("host", "")

    @property
    def port(self) -> str:
        return self.parameters.get("port", "5432")

    @property
    def database(self) -> str:
        return self.parameters.get("dbname", self.name)


def translate(text: str) -> Translation:
    """What the text of a pgbouncer.ini means here.

    Raises:
        ConfigurationError: it is not one, or it names no database.
    """
    sections = _sections(text)
    general = dict(sections.get("pgbouncer", []))
    databases = [_Database(name, _conninfo(value)) for name, value in sections.get("databases", [])]
    if not databases:
        raise ConfigurationError("no database: the section [databases] is empty or missing")
    found = Translation()
    _translate_targets(found, databases, general)
    for name, value in general.items():
        _translate_general(found, name, value, general)
    _bound_pools(found)
    for name, default in DEFAULTS.items():
        if name not in general:
            found.note(name, f"not set, which is {default} in PgBouncer; here {NUMBERS[name]} has a default of its own")
    if "listen.postgres_socket_directory" in found.settings:
        found.settings.setdefault("listen.postgres", _PORT)
    _translate_users(found, sections.get("users", []))
    for name, _ in sections.get("peers", []):
        found.note(f"[peers] {name}", "not needed: a cancel goes the way of its request")
    for name, value in sections.get("%include", []):
        found.note(name, f"{value} was not read: translate it, too")
    return found


def as_toml(translation: Translation) -> str:
    """A settings file, the notes as comments in front."""
    lines = ["# From pgbouncer.ini. What a person should know of it:", "#"]
    lines += [f"# {note.name}: {note.text}." for note in translation.notes]
    by_section: dict[str, list[str]] = {}
    for name, value in translation.settings.items():
        section, _, key = name.rpartition(".")
        by_section.setdefault(section, []).append(f"{key} = {_toml(value)}")
    for section in sorted(by_section):
        lines += ["", *([f"[{section}]"] if section else []), *by_section[section]]
    return "\n".join(lines) + "\n"


def _translate_targets(found: Translation, databases: list[_Database], general: dict[str, str]) -> None:
    """One target for each server; the default one is that of *, to which every other name leads, or the first."""
    servers: dict[tuple[str, str], list[_Database]] = {}
    for database in sorted(databases, key=lambda each: each.name != "*"):
        servers.setdefault((database.host, database.port), []).append(database)
    for number, ((host, port), members) in enumerate(servers.items()):
        first = next((each for each in members if each.name != "*"), members[0])
        target = _free(found, "targets", first.name) if number else ""
        found.settings[f"targets.{target}.url" if target else "database_url"] = _url(first, host, port, general)
        if not host:
            found.note(
                f"[databases] {first.name}",
                "has the Unix socket in PgBouncer's own default folder; connections go to localhost instead, "
                "or name the folder: ?host=/var/run/postgresql",
            )
        if "," in host:
            found.note(f"[databases] {first.name}", f"has several hosts ({host}); only the first is taken")
        for each in members:
            _translate_name(found, each, target)
            _note_database(found, each, is_first=each is first)
    found.note("password", "no password was copied: put them into the connection strings, or set DATABASE_URL")
    if len(servers) > 1:
        found.note("[databases]", f"{len(servers)} servers: a tenant each leads names of databases to theirs")


def _url(database: _Database, host: str, port: str, general: dict[str, str]) -> str:
    first = host.split(",")[0]
    place = first or "localhost"
    role = database.parameters.get("user") or database.parameters.get("auth_user") or general.get("auth_user", "ROLE")
    name = "postgres" if database.name == "*" and "dbname" not in database.parameters else database.database
    parameters = {ours: general[name] for name, ours in IN_CONNECTION_STRING.items() if general.get(name)}
    if "sslcert" in parameters and parameters.get("sslmode", "prefer") in {"allow", "prefer"}:
        parameters["sslmode"] = "require"  # where a certificate is asked for, plain text was refused as well
    if size := database.parameters.get("pool_size"):
        parameters["connection_limit"] = size
    bracketed = f"[{place}]" if ":" in place else place
    where = f"{bracketed}:{port}"
    if place.startswith("/"):
        where, parameters = "", {"host": place, "port": port} | parameters
    query = f"?{urlencode(parameters, safe='/')}" if parameters else ""
    return f"postgres://{quote(role, safe='')}:PASSWORD@{where}/{quote(name, safe='')}{query}"


def _translate_name(found: Translation, database: _Database, target: str) -> None:
    """What programs call a database is a tenant where it is not the database's own name, or not on the default target;
    and its pool mode.
    """
    if database.name != "*" and (target or database.name != database.database):
        tenant = f"tenants.{_free(found, 'tenants', database.name)}"
        found.settings[f"{tenant}.databases"] = (database.name,)
        if database.name != database.database:
            found.settings[f"{tenant}.database"] = database.database
        if target:
            found.settings[f"{tenant}.target"] = target
    mode = database.parameters.get("pool_mode", "").lower()
    if mode in KNOWN_MODES and database.name != "*":
        _add(found, "tunnel.database_pool_mode", database.database, mode)
    elif mode:
        found.note(f"[databases] {database.name}", f"pool_mode={mode}: {MODES['statement']}")


def _translate_users(found: Translation, users: list[tuple[str, str]]) -> None:
    for role, text in users:
        for name, value in _conninfo(text).items():
            if name == "pool_mode" and value.lower() in KNOWN_MODES:
                _add(found, "tunnel.role_pool_mode", role, value.lower())
            elif name in _OF_ROLES and (number := _number(name, value)):
                ours, what = _OF_ROLES[name]
                limits = found.settings.get("limits.roles", {})
                known = limits.get(role, {}) if isinstance(limits, Mapping) else {}
                assert isinstance(known, Mapping)
                _add(found, "limits.roles", role, {**known, ours: number})
                found.note(f"[users] {role}", f"{name}={value} bounds {what} (limits.roles)")
            else:
                found.note(f"[users] {role}", f"{name}={value} has no counterpart for a single role")


def _add(found: Translation, setting: str, name: str, value: Value) -> None:
    known = found.settings.get(setting, {})
    assert isinstance(known, Mapping)
    found.settings[setting] = {**known, name: value}


def _note_database(found: Translation, database: _Database, *, is_first: bool) -> None:
    name = f"[databases] {database.name}"
    if "pool_size" in database.parameters:
        size = database.parameters["pool_size"]
        text = "is connection_limit of its server here" if is_first else "has no counterpart for a single database"
        found.note(name, f"pool_size={size} {text}")
    if "user" in database.parameters:
        found.note(name, f"forces the role {database.parameters['user']}; here every program logs in as itself")
    for each in database.parameters:
        if each in _OF_DATABASES:
            continue
        if each in {"client_encoding", "datestyle", "timezone", "application_name"}:
            found.note(name, f"{each}: ALTER DATABASE {database.database} SET {each} does it for everybody")
        elif each in {"max_db_connections", "max_db_client_connections"}:
            found.note(name, f"{each} has no counterpart; pool.max_total bounds all databases together")
        else:
            found.note(name, f"{each} has no counterpart for a single database")


def _translate_general(found: Translation, name: str, value: str, general: dict[str, str]) -> None:
    if name in NUMBERS:
        _translate_number(found, name, value)
    elif name == "listen_addr":
        first = value.split(",")[0].strip()
        if not first:
            found.note(
                name, "nothing but Unix sockets in PgBouncer; here HTTP is on 127.0.0.1, if nothing else is said"
            )
            return
        found.settings["listen.host"] = "0.0.0.0" if first == "*" else first
        if "," in value:
            found.note(name, f"only the first of {value} is taken")
    elif name == "unix_socket_dir" and not value.startswith("/"):
        found.note(name, "no socket without a folder, as there" if not value else "no abstract sockets here")
    elif name in WORDS:
        found.settings[WORDS[name]] = value
    elif name == "client_tls_sslmode":
        found.note(name, f"{value}: with a certificate both ports speak TLS, as programs ask for it on listen.postgres")
    elif name in CERTIFICATE:
        if general.get("client_tls_sslmode", "disable") != "disable":
            found.settings[CERTIFICATE[name]] = value
        else:
            found.note(name, "of no use without client_tls_sslmode")
    elif name == "admin_users":
        found.settings["admin.roles"] = tuple(each.strip() for each in value.split(",") if each.strip())
    elif name == "pool_mode":
        if value.lower() in KNOWN_MODES:
            found.settings["tunnel.pool_mode"] = value.lower()
        found.note(name, f"{value}: {MODES.get(value.lower(), 'not a mode that is known')}")
    elif name == "auth_type":
        _translate_auth_type(found, value)
    elif name in {"max_db_connections", "max_user_connections"}:
        if value != "0":
            known = found.settings.get("pool.max_total")
            number = _number(name, value)
            found.settings["pool.max_total"] = int(min(number, known)) if isinstance(known, int) else int(number)
            found.note(name, "bounds all pools together here (pool.max_total), not each database or role")
    elif name in IN_CONNECTION_STRING:
        pass  # it is in the connection strings
    else:
        found.note(name, WITHOUT.get(name) or "not a setting of PgBouncer that is known")


def _bound_pools(found: Translation) -> None:
    """PgBouncer caps the one number by the other, and has no bound over all pools."""
    fixed = PoolSettings()
    size = found.settings.get("pool.max_size", fixed.max_size)
    least = found.settings.get("pool.min_size", 0)
    if isinstance(size, int) and isinstance(least, int) and least > size:
        found.settings["pool.min_size"] = size
        found.note("min_pool_size", f"as many as the pool may hold, {size}")
    if "pool.max_total" not in found.settings:
        found.note(
            "pool.max_total", f"{fixed.max_total}, as not set: for all pools together, which PgBouncer does not bound"
        )


def _translate_number(found: Translation, name: str, value: str) -> None:
    number = _number(name, value)
    ours = NUMBERS[name]
    if not number and name in ZERO_IS_NONE:
        found.note(name, f"0 sets no limit in PgBouncer; {ours} needs one, so that its default stays")
        return
    if name in {"default_pool_size"} and not number:
        found.note(name, "0 would forbid every connection; the default stays")
        return
    found.settings[ours] = number
    if name == "max_client_conn":
        found.settings["listen.max_connections"] = number
        found.note(name, "bounds the connections of each worker here, and the requests that wait for one pool")
    if name == "listen_port":
        found.note(name, "for Postgres's own wire, where other machines' passwords need TLS; HTTP is at listen.port")
    if name == "query_wait_timeout":
        found.note(name, "a request that waits longer gets 503 and may be sent again")


def _translate_auth_type(found: Translation, value: str) -> None:
    if value in {"scram-sha-256", "md5", "plain"}:
        found.note("auth_type", f"{value}: {ONE_PASSWORD}, whichever kind it is")
    elif value in {"trust", "any"}:
        found.note("auth_type", f"{value}: no counterpart; every program needs its role's password here")
    else:
        found.note("auth_type", f"{value}: no counterpart; programs prove a password here")


def _number(name: str, value: str) -> int | float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ConfigurationError(f"{name} = {value}: expected a number from 0 up")
    return int(number) if number.is_integer() else number


def _identifier(name: str) -> str:
    """A name that stands in TOML without quotes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) if name != "*" else "others"


def _free(found: Translation, section: str, name: str) -> str:
    """The name for a part of a section, which is no other one's: `a.b` and `a_b` are two."""
    taken = {setting.split(".")[1] for setting in found.settings if setting.startswith(f"{section}.")}
    taken.add(DEFAULT)
    first = free = _identifier(name)
    number = 1
    while free in taken:
        number += 1
        free = f"{first}_{number}"
    return free


def _toml(value: Value) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml(name)} = {_toml(each)}' for name, each in value.items())}}}"
    return str(value)


def _sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """Names and values by section, in their order; an %include is a section of its own."""
    sections: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in ";#":
            continue
        if line.startswith("%include"):
            sections.setdefault("%include", []).append(("%include", line.removeprefix("%include").strip()))
        elif line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip().lower()
        else:
            name, equals, value = line.partition("=")
            if not equals or not section:
                raise ConfigurationError(f"line {number} is not one of a pgbouncer.ini")
            key = name.strip() if section != "pgbouncer" else name.strip().lower()
            sections.setdefault(section, []).append((key.strip('"'), value.strip()))
    return sections


_PAIR = re.compile(r"\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^']|'')*)'|(\S*))")


def _conninfo(text: str) -> dict[str, str]:
    """The parameters of a connection string as [databases] has them; a quote within quotes is doubled."""
    return dict(_pairs(text))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text.rstrip()):
        match = _PAIR.match(text, at)
        if match is None:
            raise ConfigurationError("a line of [databases] is not a list of name=value")
        name, quoted, bare = match.groups()
        yield name.lower(), quoted.replace("''", "'") if quoted is not None else bare
        at = match.end()
