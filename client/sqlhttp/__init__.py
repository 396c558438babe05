"""SQL over HTTP for Postgres: `from sqlhttp import neon`.

`neon_async`, which needs httpx, and `errors`, the classes by SQLSTATE, are imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from sqlhttp._errors import (
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NeonDbError,
    NoDataFound,
    NotSent,
    NotSupportedError,
    OperationalError,
    OutcomeUnknown,
    ProgrammingError,
    ProtocolError,
    Refused,
    ReplyCut,
    RequestTimeout,
    RequestTooLarge,
    ResponseTooLarge,
    SendFailed,
    ServerFailed,
    TooManyRows,
)
from sqlhttp._neon import Sql, Transaction, neon
from sqlhttp._options import FetchOptions
from sqlhttp._params import Json
from sqlhttp._request import IsolationLevel
from sqlhttp._response import FullResults
from sqlhttp._retry import Retry
from sqlhttp._rows import Field
from sqlhttp._template import Query

if TYPE_CHECKING:
    from sqlhttp import errors
    from sqlhttp._async import AsyncSql, neon_async
    from sqlhttp.errors import UniqueViolation

__all__ = [
    "AsyncSql",
    "CertificateRejected",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionLost",
    "DataError",
    "DatabaseError",
    "FetchOptions",
    "Field",
    "FullResults",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "IsolationLevel",
    "Json",
    "NeonDbError",
    "NoDataFound",
    "NotSent",
    "NotSupportedError",
    "OperationalError",
    "OutcomeUnknown",
    "ProgrammingError",
    "ProtocolError",
    "Query",
    "Refused",
    "ReplyCut",
    "RequestTimeout",
    "RequestTooLarge",
    "ResponseTooLarge",
    "Retry",
    "SendFailed",
    "ServerFailed",
    "Sql",
    "TooManyRows",
    "Transaction",
    "UniqueViolation",
    "errors",
    "neon",
    "neon_async",
]

_LATER = {
    "AsyncSql": "sqlhttp._async",
    "neon_async": "sqlhttp._async",
    "UniqueViolation": "sqlhttp.errors",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "errors":
        return import_module("sqlhttp.errors")
    if name in _LATER:
        try:
            module = import_module(_LATER[name])
        except ModuleNotFoundError as error:
            if error.name != "httpx":
                raise
            raise ImportError(f"{name} needs httpx: pip install 'sqlhttp[async]'") from error
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
