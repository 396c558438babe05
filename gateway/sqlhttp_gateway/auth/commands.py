"""What `sqlhttp keys`, `sqlhttp lock` and `sqlhttp auth` do: one look at Postgres or at files, and what is printed."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from sqlhttp_gateway.auth import claims, key_table
from sqlhttp_gateway.auth.allowances import limits_from_words
from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.api_keys import KeyRecord, hash_of, new_key
from sqlhttp_gateway.auth.credentials import key_from_text
from sqlhttp_gateway.auth.one_command import lease_for, run
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.pools.targets import DEFAULT, Targets
from sqlhttp_gateway.settings import KeySettings, Settings
from sqlhttp_gateway.settings.load import in_words


def lock(files: Iterable[Path]) -> int:
    """Print the list of statements as a setting; 0.

    Raises:
        ConfigurationError: a file cannot be read, or holds no statement.
    """
    lines = [f'    "{_digest(file).hex()}", # {file.name}' for file in files]
    print("\n".join(["statements = [", *lines, "]"]))
    return 0


def keys(settings: Settings, arguments: argparse.Namespace) -> int:
    """Make, list or revoke; 0, or 1 when there is no such key.

    Raises:
        ConfigurationError: a file cannot be read, or Postgres refuses.
    """
    if arguments.action == "create":
        if arguments.login and not arguments.lock and settings.auth.set_role != "any":
            raise ConfigurationError("--login needs --lock: whoever sends SQL can leave a role that was set")
        key = new_key()
        record = _record(key.id, hash_of(key), arguments)
        _check(record)
        if arguments.prints:
            print(section(record), end="")
        else:
            run(_add(settings, record))
            print(f"Kept in sqlhttp.api_keys as {key.id}. The gateway reads it with auth.keys_table = true.")
        print(f"\nThe key, shown this once:\n\n    {key.text}\n")
        if record.target not in {DEFAULT, *settings.targets}:
            print(f'The settings have no target "{record.target}" yet: add a section under [targets].')
        elif not _is_held(settings, record):
            login = record.login or record.role
            print(f'The gateway holds no password for role "{login}" yet: add a section under [logins].')
        return 0
    if arguments.action == "list":
        for record, is_revoked in run(_read(settings)):
            print(line(record, is_revoked=is_revoked, now=datetime.now(UTC)))
        return 0
    shown = key_from_text(arguments.id)  # who has found a key somewhere has the whole of it, which is printed nowhere
    key_id = shown.id if shown is not None else arguments.id
    if run(_revoke(settings, key_id)):
        print(f"{key_id} is revoked; gateways know within auth.keys_refresh ({settings.auth.keys_refresh:g} s).")
        return 0
    print(f"no valid key has the id {key_id}")
    return 1


def auth(settings: Settings, arguments: argparse.Namespace) -> int:
    """Install the functions for signed claims; 0.

    Raises:
        ConfigurationError: there is no such target, or Postgres refuses.
    """
    run(_install(settings, arguments.target, arguments.database, new_secret=arguments.new_secret))
    print("auth.user_id(), auth.session(), auth.uid(), auth.jwt() and auth.role() are installed.")
    print("In a policy write (SELECT auth.user_id()), so that it is called once for a statement and not for every row.")
    return 0


def install_functions(settings: Settings) -> None:
    """Install the functions for signed claims in the database of the default target's connection string.

    Raises:
        ConfigurationError: Postgres refuses.
    """
    run(_install(settings, DEFAULT, None, new_secret=False))


def section(record: KeyRecord) -> str:
    """A key as a section of the settings file, in TOML."""
    lines = [f"[keys.{record.id}]", f'hash = "{record.hash}"']
    for name in ("name", "target", "database", "role", "login"):
        value = getattr(record, name)
        if value is not None:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    if record.expires_at is not None:
        lines.append(f'expires_at = "{_time(record.expires_at)}"')
    for name, entries in (("origins", record.origins), ("addresses", record.addresses)):
        if entries:
            lines.append(f"{name} = {json.dumps(entries, ensure_ascii=False)}")
    if record.read_only:
        lines.append("read_only = true")
    lines += [f"{name} = {value}" for name, value in asdict(record.allowance).items() if value is not None]
    if record.statements is not None:
        lines.append(f"statements = {json.dumps(sorted(each.hex() for each in record.statements))}")
    return "\n".join(lines) + "\n"


def line(record: KeyRecord, *, is_revoked: bool, now: datetime) -> str:
    """A key on one line, tab-separated: id, state, target/database/role, bounds, name."""
    state = "valid"
    if record.expires_at is not None:
        state = f"until {_time(record.expires_at)}" if record.expires_at > now.timestamp() else "expired"
    bounds = [
        *(["read only"] if record.read_only else []),
        *([f"{len(record.statements)} statements"] if record.statements is not None else []),
        *record.origins,
        *record.addresses,
        *(f"{name}={value}" for name, value in asdict(record.allowance).items() if value is not None),
    ]
    place = f"{record.target}/{record.database}/{record.role}"
    return "\t".join([record.id, "revoked" if is_revoked else state, place, ", ".join(bounds) or "-", record.name])


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _record(key_id: str, hashed: str, arguments: argparse.Namespace) -> KeyRecord:
    return KeyRecord(
        id=key_id,
        hash=hashed,
        target=arguments.target,
        database=arguments.database,
        role=arguments.role,
        login=arguments.login,
        name=arguments.name,
        expires_at=arguments.expires.timestamp() if arguments.expires else None,
        origins=tuple(arguments.origin),
        addresses=tuple(arguments.address),
        read_only=arguments.read_only,
        allowance=limits_from_words(arguments.limit),
        statements=frozenset(map(_digest, arguments.lock)) if arguments.lock else None,
    )


def _check(record: KeyRecord) -> None:
    """Refuse what the settings would refuse: a key that is good from nowhere looks like any other."""
    bounds = {"origins": record.origins, "addresses": record.addresses}
    try:
        KeySettings.model_validate({"hash": record.hash, "database": record.database, "role": record.role, **bounds})
    except ValidationError as error:
        raise ConfigurationError(in_words(error)) from None


def _digest(file: Path) -> bytes:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if not text.strip(" \t\r\n;"):
        raise ConfigurationError(f"{file}: there is no statement in it")
    return digest_of(text)


def _is_held(settings: Settings, record: KeyRecord) -> bool:
    held = {(each.target, each.role) for each in settings.logins.values()}
    upstream = Targets(settings).by_name.get(record.target) if settings.database_url is not None else None
    login = record.login or record.role
    return (record.target, login) in held or (upstream is not None and upstream.admin.role == login)


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _add(settings: Settings, record: KeyRecord) -> None:
    async with lease_for(settings) as lease:
        await key_table.create(lease)
        await key_table.add(lease, record)


async def _read(settings: Settings) -> list[tuple[KeyRecord, bool]]:
    async with lease_for(settings) as lease:
        return await key_table.read(lease, revoked=True)


async def _revoke(settings: Settings, key_id: str) -> bool:
    async with lease_for(settings) as lease:
        return await key_table.revoke(lease, key_id)


async def _install(settings: Settings, target: str, database: str | None, *, new_secret: bool) -> None:
    async with lease_for(settings, target, database=database) as lease:
        await claims.install(lease, new_secret=new_secret)
