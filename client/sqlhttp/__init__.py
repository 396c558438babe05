"""SQL over HTTP for Postgres: `from sqlhttp import neon`."""

from sqlhttp._errors import NeonDbError
from sqlhttp._neon import Sql, neon
from sqlhttp._params import Json
from sqlhttp._response import FullResults
from sqlhttp._retry import Retry
from sqlhttp._rows import Field
from sqlhttp._template import Query

__all__ = ["Field", "FullResults", "Json", "NeonDbError", "Query", "Retry", "Sql", "neon"]
