import json

import pytest

from sqlhttp._cache import Cache, endpoint_of, invalidation, read
from sqlhttp._endpoint import Endpoint, Origin
from sqlhttp._errors import InterfaceError, NeonDbError
from sqlhttp._http1 import Reply


def test_wish_is_said_in_http_s_own_words() -> None:
    assert Cache(60).headers == (("Cache-Control", "max-age=60"),)
    assert Cache(60, 600, ["users", "user:7"], refresh=True, only_if_cached=True).headers == (
        ("Cache-Control", "max-age=60, stale-while-revalidate=600, no-cache, only-if-cached"),
        ("Sqlhttp-Cache-Tags", "users,user:7"),
    )


@pytest.mark.parametrize(
    "wish",
    [Cache(1.5), Cache(-1), Cache(True), Cache(1, swr="x"), Cache(1, tags="users"), Cache(1, tags=["a,b"])],  # type: ignore[arg-type]
)
def test_wish_that_cannot_be_said_is_refused(wish: Cache) -> None:
    with pytest.raises(InterfaceError):
        _ = wish.headers


def test_invalidation_names_what_is_to_end() -> None:
    out = invalidation(
        ("a", "b"),
        relations=["users"],
        all=True,
        everywhere=True,
        connection_string="postgres://u:p@h/d",
        token=None,
        extra=(),
    )
    assert json.loads(out.body) == {"tags": ["a", "b"], "relations": ["users"], "all": True, "everywhere": True}
    assert ("Neon-Connection-String", "postgres://u:p@h/d") in out.headers
    assert out.is_repeatable


def test_invalidation_of_nothing_is_refused() -> None:
    with pytest.raises(InterfaceError, match="invalidate"):
        invalidation((), relations=[], all=False, everywhere=False, connection_string=None, token=None, extra=())


def test_one_name_is_no_list_of_relations() -> None:
    """Each of its letters would be one, and nothing would end."""
    with pytest.raises(InterfaceError, match="list"):
        invalidation((), relations="users", all=False, everywhere=False, connection_string=None, token=None, extra=())


@pytest.mark.parametrize(
    ("target", "path"),
    [("/sql", "/cache/invalidate"), ("/api/sql?x=1", "/api/cache/invalidate"), ("/", "/cache/invalidate")],
)
def test_it_goes_beside_where_statements_go(target: str, path: str) -> None:
    endpoint = Endpoint(Origin("localhost", 4444, False), "localhost:4444", target)
    assert endpoint_of(endpoint).target.replace("//", "/") == path


def test_refusal_is_an_error_and_everything_else_is_well() -> None:
    read(Reply(204, {}, b""), 1)
    with pytest.raises(NeonDbError, match="admin"):
        read(Reply(400, {}, b'{"message":"only admins","code":"28000"}'), 1)
