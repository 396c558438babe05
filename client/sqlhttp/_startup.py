"""From a connection string to what is said first on a connection: start-up parameters and a password. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlhttp._endpoint import parts_of
from sqlhttp._errors import InterfaceError

_PASSED_ON = (
    "application_name",
    "options",
    "search_path",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
)
"""Parameters of a connection string that are Postgres's; all else there is for drivers."""


class Startup(NamedTuple):
    """What logs in."""

    parameters: Mapping[str, str]
    password: bytes | None

    def __repr__(self) -> str:
        return f"Startup({dict(self.parameters)})"  # never the password


def startup(connection_string: str | None, token: str | None, *, pool_mode: str | None = None) -> Startup:
    """The parameters and the password, which is the token where the connection string has none.

    `pool_mode` is a wish to a gateway's pool; Neon's proxy drops it.

    Raises:
        InterfaceError: no role is named, or a part is not UTF-8 when it is decoded.
    """
    from urllib.parse import parse_qsl, unquote, unquote_to_bytes

    parts = parts_of(connection_string or "")
    if parts is None or not parts["user"]:
        raise InterfaceError("a WebSocket needs a role: postgresql://role:password@host/database, or DATABASE_URL")
    try:
        role = unquote(parts["user"], errors="strict")
        database = unquote((parts["path"] or "/").split("/")[1], errors="strict")
    except UnicodeDecodeError:
        raise InterfaceError("the role or the database's name is not UTF-8") from None
    parameters = {"user": role, "database": database or role}
    given = dict(parse_qsl((parts["query"] or "").removeprefix("?"), keep_blank_values=True))
    parameters |= {name: given[name] for name in _PASSED_ON if name in given}
    if pool_mode is not None:
        parameters["pool_mode"] = pool_mode
    parameters["client_encoding"] = "UTF8"
    password = unquote_to_bytes(parts["password"]) if parts["password"] else None
    if password is None and token:
        password = token.encode()
    return Startup(parameters, password)
