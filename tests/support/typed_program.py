"""A user's program as mypy sees it. It is never run: tests/test_client_typing.py compares what mypy reveals.

Each `reveal_type` says on its line what it must reveal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypedDict, reveal_type

from pydantic import BaseModel

from sqlhttp import AsyncInteractiveTransaction, Cache, FullResults, NeonDbError, Query, Retry, Sql, neon, neon_async
from sqlhttp.errors import UniqueViolation


@dataclass
class User:
    id: int
    name: str


class Named(NamedTuple):
    id: int


class Typed(TypedDict):
    id: int


class Model(BaseModel):
    id: int


def greet(id: int) -> str:
    return f"hello {id}"


sql = neon("postgresql://role:password@localhost/main")
reveal_type(sql)  # Sql[list[dict[str, Any]]]
reveal_type(sql("select 1"))  # list[dict[str, Any]]
reveal_type(sql("select $1", 1, row=User))  # list[User]
reveal_type(sql.query("select $1", [1]))  # list[dict[str, Any]]
reveal_type(sql.query("select 1", timeout=3.0))  # list[dict[str, Any]]
reveal_type(sql.query("select 1", array_mode=True))  # list[tuple[Any, ...]]
reveal_type(sql.query("select 1", full_results=True))  # FullResults[dict[str, Any]]
reveal_type(sql.query("select 1", array_mode=True, full_results=True))  # FullResults[tuple[Any, ...]]
reveal_type(sql.query("select 1", row=User))  # list[User]
reveal_type(sql.query("select 1", row=User, full_results=True))  # FullResults[User]
reveal_type(sql.query("select 1", row=Named))  # list[tuple[int, fallback=Named]]
reveal_type(sql.query("select 1", row=Typed))  # list[TypedDict(Typed, {'id': int})]
reveal_type(sql.query("select 1", row=Model))  # list[Model]
reveal_type(sql.query("select 1", row=greet))  # list[str]
reveal_type(sql.query("select 1", full_results=True).rows)  # list[dict[str, Any]]
reveal_type(sql.query("select 1", full_results=True).row_count)  # int | None
reveal_type(sql.one("select 1"))  # dict[str, Any]
reveal_type(sql.one("select 1", row=User))  # User
reveal_type(sql.first("select 1"))  # dict[str, Any] | None
reveal_type(sql.first("select 1", row=User))  # User | None
reveal_type(sql.val("select 1"))  # Any
reveal_type(sql.col("select 1"))  # list[Any]
reveal_type(sql.execute("delete from t"))  # int | None
reveal_type(sql.ident("t"))  # Query[Any]
reveal_type(sql.q("select 1"))  # Query[list[dict[str, Any]]]
reveal_type(sql.q("select 1", row=User))  # Query[list[User]]
reveal_type(sql.transaction([sql.q("select 1")]))  # list[list[dict[str, Any]]]
reveal_type(sql.transaction([sql.q("select 1", row=User)]))  # list[list[User]]
reveal_type(sql.transaction([sql.q("select 1")], full_results=True))  # list[Any]

users = sql.with_(row=User)
reveal_type(users)  # Sql[list[User]]
reveal_type(users("select 1"))  # list[User]
reveal_type(users.one("select 1"))  # User
reveal_type(users.q("select 1"))  # Query[list[User]]
reveal_type(sql.with_(timeout=1.0))  # Sql[list[dict[str, Any]]]
reveal_type(sql.with_(array_mode=True))  # Sql[list[tuple[Any, ...]]]
reveal_type(users.with_(full_results=True))  # Sql[FullResults[User]]
reveal_type(users.with_deadline(3.0))  # Sql[list[User]]

reveal_type(neon(array_mode=True))  # Sql[list[tuple[Any, ...]]]
reveal_type(neon(full_results=True))  # Sql[FullResults[dict[str, Any]]]
reveal_type(neon(row=User, retry=Retry(attempts=5)))  # Sql[list[User]]
full = neon(row=User, full_results=True)
reveal_type(full)  # Sql[FullResults[User]]
reveal_type(full.one("select 1"))  # User
reveal_type(full.query("select 1", full_results=False))  # list[User]


with sql.begin(isolation_level="Serializable", read_only=True) as tx:
    reveal_type(tx)  # InteractiveTransaction[list[dict[str, Any]]]
    reveal_type(tx("select 1"))  # list[dict[str, Any]]
    reveal_type(tx.query("select 1", row=User, timeout=1.0))  # list[User]
    reveal_type(tx.query("select 1", full_results=True))  # FullResults[dict[str, Any]]
    reveal_type(tx.one("select 1", row=User))  # User
    with tx.savepoint() as point:
        reveal_type(point)  # Savepoint
with users.session() as session:
    reveal_type(session("select 1"))  # list[User]
    reveal_type(session.begin(lambda tx: tx.first("select 1")))  # User | None
reveal_type(users.begin(lambda tx: tx.one("select 1"), retry=None))  # User
reveal_type([heard.payload for heard in sql.listen("a")])  # list[str]


async def main() -> None:
    asql = neon_async()
    reveal_type(asql)  # AsyncSql[list[dict[str, Any]]]
    reveal_type(await asql("select 1"))  # list[dict[str, Any]]
    reveal_type(await asql("select 1", row=User))  # list[User]
    reveal_type(await asql.query("select 1", full_results=True))  # FullResults[dict[str, Any]]
    reveal_type(await asql.query("select 1", row=User))  # list[User]
    reveal_type(await asql.one("select 1", row=User))  # User
    reveal_type(await asql.first("select 1"))  # dict[str, Any] | None
    reveal_type(await asql.transaction([asql.q("select 1", row=User)]))  # list[list[User]]
    reveal_type(await asql.query("select 1", consistency="replica", cache=Cache(ttl=5)))  # list[dict[str, Any]]
    reveal_type(asql.with_(row=User))  # AsyncSql[list[User]]

    async def work(tx: AsyncInteractiveTransaction[list[User]]) -> int:
        return (await tx.one("select 1")).id

    async with asql.begin() as tx:
        reveal_type(await tx("select 1"))  # list[dict[str, Any]]
        reveal_type(await tx.query("select 1", array_mode=True))  # list[tuple[Any, ...]]
    reveal_type(await asql.with_(row=User).begin(work))  # int
    async with asql.session() as session:
        reveal_type(await session.one("select 1"))  # dict[str, Any]
    reveal_type([heard.payload async for heard in asql.listen("a", timeout=1)])  # list[str]


def takes(client: Sql[list[User]], answer: FullResults[User], query: Query[list[User]]) -> Callable[[], User | None]:
    """What was revealed can be written down."""
    client.transaction([query])
    return lambda: client.first("select 1") or answer.rows[0]


try:
    takes(users, users.with_(full_results=True)("select 1"), users.q("select 1"))
except UniqueViolation as violation:
    reveal_type(violation.constraint)  # str | None
except NeonDbError as error:
    reveal_type(error.may_have_run)  # bool
    reveal_type(error.sqlstate)  # str | None
