"""The command line: arguments become settings and one call. What the commands do is said elsewhere."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlhttp_gateway.auth.arguments import add_parsers
from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.cache.arguments import add_cache_parser
from sqlhttp_gateway.errors import AddressUnavailable, ConfigurationError
from sqlhttp_gateway.idempotency.arguments import add_parser
from sqlhttp_gateway.settings import Settings, load_settings
from sqlhttp_gateway.settings.load import BY_NAME
from sqlhttp_gateway.stand_ins import Given, standing_in
from sqlhttp_gateway.uvicorn_alone import load_uvicorn

DESCRIPTION = """\
Postgres over HTTP, behind a bounded pool of connections: a self-hosted server for
drivers that speak Neon's SQL-over-HTTP protocol."""

EPILOG = """\
Every setting can be given in three ways; the first that has it wins:

  --set pool.max_size=20                  on the command line
  SQLHTTP_POOL__MAX_SIZE=20               in the environment
  [pool] max_size = 20                    in the file of --config, in TOML

A list or a table is JSON in the first two: SQLHTTP_ALIASES='["db.example.com"]'.

The database is SQLHTTP_DATABASE_URL, DATABASE_URL, or database_url in the file. A name that
is no setting is refused. deploy/sqlhttp.example.toml lists them all with their defaults.

Exit status: 0 after an orderly end, 1 when something could not be started, 2 when a setting is wrong."""

_UNMEASURED: dict[str, Given] = {"shutil": {"get_terminal_size": lambda: lambda: os.terminal_size((80, 24))}}
"""argparse asks for the terminal's width with each argument that is added, and loads all archivers for it. Whoever is
shown help has it in the real width."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status. A fault that a person can mend is one message, never a traceback."""
    with standing_in(_UNMEASURED):
        parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        _check_text(arguments)
        if arguments.command == "check" and arguments.pgbouncer is not None:
            return _translate(arguments.pgbouncer, wants_json=arguments.json)
        if arguments.command == "lock":
            return _lock(arguments.files)
        settings = _settings(arguments)
        if arguments.command == "keys":
            return _keys(settings, arguments)
        if arguments.command == "tenants":
            return _tenants(settings, arguments)
        if arguments.command == "auth":
            return _auth(settings, arguments)
        if arguments.command == "cache":
            return _cache(settings, arguments)
        if arguments.command == "idempotency":
            return _idempotency(settings, arguments)
        if arguments.command == "check":
            return _check(settings, arguments)
        if arguments.command == "health":
            return _health(settings, arguments)
        if arguments.command == "dev":
            return _dev(settings, arguments.data)
        return _serve(settings, read=lambda: _settings(arguments))
    except ConfigurationError as error:
        _complain(str(error))
        return 1 if isinstance(error, AddressUnavailable) else 2  # a supervisor tries again after 1, and not after 2
    except KeyboardInterrupt:
        return 130


def _check_text(arguments: argparse.Namespace) -> None:
    """Words that stand for nothing but bytes are refused here; of files, any bytes may be the name."""
    for name, value in vars(arguments).items():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not word.isascii() and any("\ud800" <= each <= "\udfff" for each in word):
                raise ConfigurationError(f"{name.replace('_', '-')}: not text in the terminal's encoding")


def _dev(settings: Settings, folder: Path) -> int:
    # Only dev needs what the `embedded` extra brings.
    load_uvicorn()
    from sqlhttp_gateway.dev import dev
    from sqlhttp_gateway.embedded import PostgresFailed

    try:
        return dev(settings, folder)
    except PostgresFailed as error:
        _complain(str(error))
        return 1


def _serve(settings: Settings, read: Callable[[], Settings]) -> int:
    load_uvicorn()
    from sqlhttp_gateway.workers import serve

    if settings.database_url is None:
        raise ConfigurationError("database_url: not set, so there is no Postgres to serve. Set DATABASE_URL.")
    return serve(settings, read=read)


def _check(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.check.capacity import Deployment
    from sqlhttp_gateway.check.command import check

    deployment = Deployment(arguments.instances, arguments.buffer)
    return check(settings, deployment, wants_json=arguments.json, installs_auth=arguments.install_auth)


def _health(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.health import health

    return health(settings, path="/readyz" if arguments.ready else "/livez", timeout=arguments.timeout)


def _keys(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.auth.commands import keys

    return keys(settings, arguments)


def _tenants(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.auth.tenant_commands import tenants

    return tenants(settings, arguments)


def _auth(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.auth.commands import auth

    return auth(settings, arguments)


def _cache(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.cache_watch import cache

    return cache(settings, arguments)


def _idempotency(settings: Settings, arguments: argparse.Namespace) -> int:
    from sqlhttp_gateway.idempotency.command import idempotency

    return idempotency(settings, arguments)


def _lock(files: list[Path]) -> int:
    from sqlhttp_gateway.auth.commands import lock

    return lock(files)


def _translate(file: Path, *, wants_json: bool) -> int:
    from sqlhttp_gateway.check.command import translate_file

    return translate_file(file, wants_json=wants_json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sqlhttp",
        description=DESCRIPTION,
        epilog="The client's own commands are query and tunnel: see sqlhttp query --help, sqlhttp tunnel --help.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which sqlhttp this is")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve the HTTP port in front of your Postgres",
        description="Serve the HTTP port in front of the Postgres of DATABASE_URL. SIGTERM drains and ends it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--workers", type=int, metavar="N", help="processes that share the port (listen.workers)")
    dev = commands.add_parser(
        "dev",
        help="try it: a private Postgres and the gateway in front of it",
        description="Start a private Postgres and the gateway in front of it, for development on this machine. Role\n"
        "postgres, password postgres, database main. With DATABASE_URL set, that Postgres is used instead.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dev.add_argument(
        "--data", type=Path, metavar="FOLDER", default=Path(".sqlhttp"), help="where the data is kept (.sqlhttp)"
    )
    check = commands.add_parser(
        "check",
        help="say what is right and wrong with the settings and with Postgres",
        description="Read the settings, look at the real Postgres, and say what is right and wrong, with a number and\n"
        "a remedy each. Exit status 1 when something is an error. With --from, print what a pgbouncer.ini means here.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    check.add_argument("--instances", type=_at_least_one, default=1, metavar="N", help="gateways on this Postgres (1)")
    check.add_argument(
        "--buffer", type=_from_zero, default=5, metavar="N", help="connections to leave to others, for each gateway (5)"
    )
    check.add_argument(
        "--install-auth",
        action="store_true",
        help="first install auth.user_id() and its like in the default target's database",
    )
    check.add_argument("--from", dest="pgbouncer", type=Path, metavar="FILE", help="a pgbouncer.ini to translate")
    check.add_argument("--workers", type=int, metavar="N", help="processes that share the port (listen.workers)")
    health = commands.add_parser(
        "health",
        help="say whether the gateway of these settings runs, for a container's health check",
        description="Ask the gateway of the same settings, at one of its addresses, whether it lives: by HTTP or\n"
        "HTTPS, by a Unix socket, or where the operator asks. Exit status 0 when it does, 1 when not.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    health.add_argument("--ready", action="store_true", help="ask instead whether it can serve: Postgres answers")
    health.add_argument(
        "--timeout", type=_seconds, default=2.0, metavar="SECONDS", help="how long it may take to answer (2)"
    )
    for command in (
        serve,
        dev,
        check,
        health,
        *add_parsers(commands),
        *add_parser(commands),
        *add_cache_parser(commands),
    ):
        command.add_argument("--config", type=Path, metavar="FILE", help="a settings file in TOML")
        command.add_argument("--host", help="address to listen on (listen.host)")
        command.add_argument("--port", type=int, help="port to listen on (listen.port)")
        command.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting; may be repeated"
        )
    return parser


def _at_least_one(text: str) -> int:
    return _whole(text, 1)


def _from_zero(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or (number := int(text)) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} up")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return seconds


class _Version(argparse.Action):
    """Asks for the version when it is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"sqlhttp {build_version()}")
        parser.exit()


def _settings(arguments: argparse.Namespace) -> Settings:
    given: dict[str, Any] = {}
    for assignment in arguments.set:
        name, equals, value = assignment.partition("=")
        if not equals or "://" in name:  # never its text: it may be a connection string, whose name was forgotten
            raise ConfigurationError("--set: expected NAME=VALUE, such as pool.max_size=20")
        _put(given, name, _taken_apart(name, value))
    for flag in ("host", "port", "workers"):
        if (value := getattr(arguments, flag, None)) is not None:
            _put(given, f"listen.{flag}", value)
    if unknown := sorted(given.keys() - Settings.model_fields.keys()):
        raise ConfigurationError(f"unknown setting: {', '.join(unknown)}")
    return load_settings(file=arguments.config, **given)


def _taken_apart(name: str, value: str) -> Any:
    """A list or a table from its JSON; all else is a text, and so is what begins like a table and is none."""
    if not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        if value.startswith("{"):
            return value
        raise ConfigurationError(f'{name}: expected a list in JSON, such as ["one", "two"]') from None


def _put(given: dict[str, Any], name: str, value: Any) -> None:
    first, *more = name.split(".")
    if more and first.lower() not in BY_NAME:
        more[0] = more[0].lower()
    *sections, last = first.lower(), *more  # what is behind may be the name of a role, which has its own case
    for section in sections:
        given = given.setdefault(section, {})
        if not isinstance(given, dict):
            raise ConfigurationError(f"{name}: {section} was given a value of its own")
    given[last] = value


def _complain(message: str) -> None:
    print(f"sqlhttp: {message}", file=sys.stderr)
