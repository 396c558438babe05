"""SQL over HTTP for Postgres: `from sqlhttp import neon`.

`neon_async`, which needs httpx, what needs websockets, and `errors`, the classes by SQLSTATE, are imported when they
are first asked for.
"""

from typing import TYPE_CHECKING, Any

from sqlhttp._cache import Cache
from sqlhttp._cache_status import CacheStatus
from sqlhttp._errors import (
    BookmarkLost,
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    KeyInFlight,
    KeyReused,
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
    TransactionLost,
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
    from sqlhttp._listen import Listener
    from sqlhttp._listen_async import AsyncListener
    from sqlhttp._session import InteractiveTransaction, Savepoint, Session
    from sqlhttp._session_async import AsyncInteractiveTransaction, AsyncSavepoint, AsyncSession
    from sqlhttp._wire.backend import Notification
    from sqlhttp.errors import UniqueViolation

__all__ = [
    "AsyncInteractiveTransaction",
    "AsyncListener",
    "AsyncSavepoint",
    "AsyncSession",
    "AsyncSql",
    "BookmarkLost",
    "Cache",
    "CacheStatus",
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
    "InteractiveTransaction",
    "InterfaceError",
    "InternalError",
    "IsolationLevel",
    "Json",
    "KeyInFlight",
    "KeyReused",
    "Listener",
    "NeonDbError",
    "NoDataFound",
    "NotSent",
    "NotSupportedError",
    "Notification",
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
    "Savepoint",
    "SendFailed",
    "ServerFailed",
    "Session",
    "Sql",
    "TooManyRows",
    "Transaction",
    "TransactionLost",
    "UniqueViolation",
    "errors",
    "neon",
    "neon_async",
]

_LATER = {
    "AsyncInteractiveTransaction": "sqlhttp._session_async",
    "AsyncListener": "sqlhttp._listen_async",
    "AsyncSavepoint": "sqlhttp._session_async",
    "AsyncSession": "sqlhttp._session_async",
    "InteractiveTransaction": "sqlhttp._session",
    "Listener": "sqlhttp._listen",
    "Notification": "sqlhttp._wire.backend",
    "Savepoint": "sqlhttp._session",
    "Session": "sqlhttp._session",
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
