"""The gateway's result cache, from the client's side: what a call asks of it, and how to end answers.

Values and requests only; nothing is sent from here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlhttp._endpoint import Endpoint
from sqlhttp._errors import InterfaceError
from sqlhttp._http1 import Reply
from sqlhttp._request import Request, _compact, request

PATH = "/cache/invalidate"


class Cache(NamedTuple):
    """What a call that reads asks of the gateway's cache: `cache=Cache(ttl=60, swr=600, tags=["users"])`."""

    ttl: int = 0
    """Seconds that the answer may be old."""
    swr: int = 0
    """Seconds beyond those in which an old answer may be given while a new one is fetched behind it."""
    tags: tuple[str, ...] | list[str] = ()
    """Names by which the answer can be ended."""
    refresh: bool = False
    """Whether the answer has to be new; it is kept for others."""
    only_if_cached: bool = False
    """Whether nobody but the cache is to be asked; without an answer of its own the call fails."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """How a request says it.

        Raises:
            InterfaceError: a number is none of whole seconds, or a tag is none.
        """
        for name, value in (("ttl", self.ttl), ("swr", self.swr)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InterfaceError(f"Cache takes whole seconds as {name}, 0 or more")
        wishes = [f"max-age={self.ttl}"]
        if self.swr:
            wishes.append(f"stale-while-revalidate={self.swr}")
        if self.refresh:
            wishes.append("no-cache")
        if self.only_if_cached:
            wishes.append("only-if-cached")
        control = ("Cache-Control", ", ".join(wishes))
        return (control, ("Sqlhttp-Cache-Tags", ",".join(_tags(self.tags)))) if self.tags else (control,)


def invalidation(
    tags: tuple[str, ...],
    *,
    relations: Sequence[str],
    all: bool,
    everywhere: bool,
    connection_string: str | None,
    token: str | None,
    extra: tuple[tuple[str, str], ...],
) -> Request:
    """The request that ends answers.

    Raises:
        InterfaceError: it names nothing, a tag is none, or relations are no list.
    """
    body: dict[str, Any] = {}
    if tags:
        body["tags"] = _tags(tags)
    if relations:
        if isinstance(relations, str):
            raise InterfaceError("relations are a list of strings, not one")
        body["relations"] = list(relations)
    if all:
        body["all"] = True
    if everywhere:
        body["everywhere"] = True
    if not body:
        raise InterfaceError("invalidate() takes tags, relations=, all=True or everywhere=True")
    out = request((), batch=True, connection_string=connection_string, token=token, extra=extra)
    return out._replace(body=_compact(body).encode(), read_only=True)


def endpoint_of(sql: Endpoint) -> Endpoint:
    """Where answers are ended, beside where statements are sent."""
    return sql._replace(target=sql.target.partition("?")[0].removesuffix("/sql") + PATH)


def read(reply: Reply, attempts: int) -> None:
    """The end of it.

    Raises:
        NeonDbError: the gateway refused.
    """
    if reply.status not in (200, 204):
        from sqlhttp._response import error_of

        raise error_of(reply)


def _tags(tags: tuple[str, ...] | list[str]) -> list[str]:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag and "," not in tag for tag in tags):
        raise InterfaceError("tags are a list of strings without commas")
    if not all(tag.isascii() and tag.isprintable() for tag in tags):
        raise InterfaceError("tags are printable ASCII")
    return list(tags)
