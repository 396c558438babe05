"""Runs the check: looks at every target, judges, prints."""

import asyncio
import time
from pathlib import Path

import orjson

from sqlhttp_gateway.auth.commands import install_functions
from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.certificate import load
from sqlhttp_gateway.check.capacity import Deployment, capacity
from sqlhttp_gateway.check.facts import facts_of
from sqlhttp_gateway.check.finding import Finding, as_json, as_text, exit_status
from sqlhttp_gateway.check.judge import judge_target
from sqlhttp_gateway.check.judge_auth import judge_logins
from sqlhttp_gateway.check.judge_servers import judge_servers
from sqlhttp_gateway.check.judge_settings import judge_settings
from sqlhttp_gateway.check.pgbouncer_ini import as_toml, translate
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.pools.probe import look_once
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import Settings


def check(settings: Settings, deployment: Deployment, *, wants_json: bool, installs_auth: bool = False) -> int:
    """Print what was found; 1 when something is wrong, else 0. With `installs_auth` the functions for signed claims are
    installed first, in the database of the default target's connection string.

    Raises:
        ConfigurationError: a connection string in the settings cannot be used, or Postgres lets nothing be installed.
    """
    if installs_auth:
        install_functions(settings)
    findings = asyncio.run(find(settings, deployment))
    print(as_json(findings, version=build_version()) if wants_json else as_text(findings))
    return exit_status(findings)


def translate_file(file: Path, *, wants_json: bool) -> int:
    """Print the settings that a pgbouncer.ini means here, as TOML or as JSON; 0.

    Raises:
        ConfigurationError: it cannot be read or is not one.
    """
    try:
        translation = translate(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: {getattr(error, 'strerror', None) or 'not a text'}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    if wants_json:
        print(orjson.dumps(translation, option=orjson.OPT_INDENT_2).decode())
    else:
        print(as_toml(translation), end="")
    return 0


async def find(settings: Settings, deployment: Deployment) -> list[Finding]:
    """Everything that was found, about the settings first, then target by target.

    Raises:
        ConfigurationError: as `check`.
    """
    targets = Targets(settings)
    upstreams = list(targets.by_server.values())
    await look_once(targets.groups)
    seen = await asyncio.gather(*map(facts_of, upstreams))
    expires_at, fault = await asyncio.to_thread(_certificate, settings)
    findings = judge_settings(settings, open_files=_open_files(), expires_at=expires_at, fault=fault, now=time.time())
    for upstream, facts in zip(upstreams, seen, strict=True):
        is_default = upstream is targets.default
        findings += judge_target(
            facts,
            dsn=upstream.admin,
            ssl=upstream.ssl,
            is_pooler=upstream.is_pooler,
            # Of several servers one is the primary, which may be any.
            is_default=is_default and upstream.group is None,
        )
        findings += judge_logins(settings, facts)
        if is_default and facts.sample is not None and facts.sample.max_connections and not facts.is_behind_pooler:
            findings.append(
                capacity(
                    settings,
                    max_connections=facts.sample.max_connections,
                    reserved=facts.sample.reserved,
                    deployment=deployment,
                    is_probed=upstream.group is not None,
                )
            )
    for group in targets.groups:
        findings += judge_servers(group)
    return findings


def _certificate(settings: Settings) -> tuple[float | None, str]:
    """When it ends, if there is one; and why it cannot be used."""
    if settings.listen.tls_certificate is None:
        return None, ""
    try:
        return load(settings.listen).expires_at, ""
    except ConfigurationError as error:
        return None, str(error)


def _open_files() -> int:
    """As far as the gateway raises the limit by itself."""
    from sqlhttp_gateway.descriptors import files  # not on Windows

    return files().hard
