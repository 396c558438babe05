"""The arguments of `sqlhttp keys`, `lock`, `auth` and `tenants`. What these do is in `auth.commands` and its like."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlhttp_gateway.place_arguments import add_place

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    """Add the commands; answers the parsers that also take settings."""
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create",
        help="make a key, which is shown once",
        description="Make an API key and keep its hash in sqlhttp.api_keys, a table in the default target's database,\n"
        "which the gateway reads with auth.keys_table. With --print, nothing is kept: the section for the settings\n"
        "file is printed instead.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    create.add_argument("--role", required=True, help="the role it is for; the gateway must hold its password (logins)")
    create.add_argument("--login", help="the role to log in as and to become --role by SET LOCAL ROLE; needs --lock")
    create.add_argument("--database", required=True, help="the database it opens")
    create.add_argument("--target", default="default", help="the target it opens (default)")
    create.add_argument("--name", default="", help="what people call it")
    create.add_argument(
        "--expires", type=expiry, metavar="WHEN", help="90d, 12h, 30m from now, or a date such as 2030-01-31"
    )
    create.add_argument("--origin", action="append", default=[], help="a page that may use it; may be repeated")
    create.add_argument("--address", action="append", default=[], help="an address or network it may come from")
    create.add_argument("--read-only", action="store_true", help="its transactions are read only")
    create.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="what it may take, by a name of the section limits such as rate=50; may be repeated",
    )
    create.add_argument("--lock", nargs="+", type=Path, metavar="FILE", help="only the statements of these files run")
    create.add_argument("--print", action="store_true", dest="prints", help="print a section for the settings file")
    listing = actions.add_parser("list", help="list the keys of the table")
    revoke = actions.add_parser("revoke", help="let a key be valid no longer")
    revoke.add_argument("id", help="its id, the twelve digits behind sk_; or the whole key")
    lock = commands.add_parser(
        "lock",
        help="print the SHA-256 of saved statements, for a key that may run nothing else",
        description="Print the SHA-256 of the one statement in each file, as `statements` of a key in the settings.",
    )
    lock.add_argument("files", nargs="+", type=Path, metavar="FILE")
    auth = commands.add_parser("auth", help="install the functions by which policies know who asks")
    steps = auth.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = steps.add_parser(
        "install",
        help="install auth.user_id() and its like",
        description="Install auth.user_id(), auth.session(), auth.uid(), auth.jwt() and auth.role(),\n"
        "which read the signed claims of a token, or bring them up to date. Running it again changes nothing.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_place(install)
    install.add_argument("--new-secret", action="store_true", help="make what was signed so far worthless")
    return [create, listing, revoke, install, *_add_tenants(commands)]


def _add_tenants(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    tenants = commands.add_parser("tenants", help="add, list and remove tenants: names that lead to a database")
    actions = tenants.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add",
        help="add a tenant, or change one",
        description="Keep a tenant in sqlhttp.tenants, a table in the default target's database, which the gateway\n"
        "reads with auth.tenants_table. {name} in --target and --database is what * stood for, or the name itself.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("name", help="what it is called")
    add.add_argument(
        "--host-name", action="append", default=[], metavar="HOST", help="a host that means it, or *.HOST; repeatable"
    )
    add.add_argument(
        "--database-name", action="append", default=[], metavar="NAME", help="a database's name that means it"
    )
    add.add_argument("--target", default="default", help="the target it is on (default)")
    add.add_argument("--database", help="the database; without it, as the connection string has it")
    add.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="what each of its databases may take, by a name of the section limits such as rate=50; may be repeated",
    )
    listing = actions.add_parser("list", help="list the tenants of the table")
    remove = actions.add_parser("remove", help="forget a tenant; its database stays")
    remove.add_argument("name", help="what it is called")
    return [add, listing, remove]


def expiry(text: str, *, now: datetime | None = None) -> datetime:
    """A moment: so long from `now`, or a date or time, which is in UTC unless it says otherwise.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    length = re.fullmatch(r"([0-9]{1,6})([dhm])", text)
    if length is not None:
        return (now or datetime.now(UTC)) + timedelta(**{_UNITS[length[2]]: int(length[1])})
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter of a first or last day which in UTC is in no year that there is
        raise argparse.ArgumentTypeError("expected a time from now such as 90d, or a date such as 2030-01-31") from None
