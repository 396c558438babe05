"""What a request asks of the cache, and under which key its answer may be kept. Pure.

The key holds all by which Postgres could tell two callers apart: target, database, role, the claims that are set, the
tenant, the parameters of the connection string, the text with its parameters, and how the answer is written; besides
what the program allows, so that nobody gets what others have allowed, and its tags, so that each of them ends it. A
password is no part of it. Two requests with one key are one question.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from sqlhttp_gateway.model import Bookmark, Options, Statement
from sqlhttp_gateway.neon.caching import (
    CACHE_CONTROL,
    CACHE_TAGS,
    NO_WISH,
    Wish,
    rest_of_query,
    tags_from_header,
    wish_from_body,
    wish_from_comment,
    wish_from_control,
    wish_from_query,
    wish_from_words,
)
from sqlhttp_gateway.settings import CacheSettings
from sqlhttp_gateway.wire.meaning import speaks_of_now

_CLOCK_PARAM = re.compile(
    rb"(?:[^a-z]|null\b)*+(?:now|today|tomorrow|yesterday)"
    rb"(?:[^a-z]|now|today|tomorrow|yesterday|utc|gmt|zulu|allballs|[ap]m|z|null|infinity)*+",
    re.IGNORECASE,
)
_MAX_CLOCK_TEXT = 64
"""Bytes of a parameter that may be a date: Postgres reads no longer ones."""
_OWN_COMMENT = re.compile(r"\s*+/\*\s*+cache\s[^*/]*+\*/")


class Scope(NamedTuple):
    """As whom a request runs."""

    target: str
    database: str
    role: str
    login: str = ""
    """The role that logged in, if another one."""
    tenant: str = ""
    """The key's or token's; empty for a role's own password."""
    claims: bytes = b""

    @property
    def place(self) -> tuple[str, str]:
        """Target and database."""
        return self.target, self.database


class Question(NamedTuple):
    """A request that may be answered from the cache."""

    scope: Scope
    statement: Statement
    key: bytes
    wish: Wish
    refusal: str = ""
    """Why it cannot, as far as that shows without asking Postgres."""
    bookmark: Bookmark | None = None
    """What the program has seen: an answer from before that is none for it."""

    @property
    def ttl(self) -> float:
        return self.wish.ttl or 0.0

    @property
    def swr(self) -> float:
        return self.wish.swr or 0.0


class Asked(NamedTuple):
    """Where a wish may stand, as it came."""

    control: bytes | None
    tags: bytes | None
    connection_query: bytes
    url_query: bytes

    def __repr__(self) -> str:
        return f"Asked(control={self.control!r}, tags={self.tags!r})"  # parameters may be secrets: options, sslpassword

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes], connection_string: bytes, url_query: bytes) -> "Asked":
        """The parameters of a connection string begin behind its first "?", where no password can be."""
        return cls(
            headers.get(CACHE_CONTROL),
            headers.get(CACHE_TAGS),
            connection_string.partition(b"?")[2] if b"?" in connection_string else b"",
            url_query,
        )


class Policy:
    """The settings' part of it: whose requests ask by default, and how much may be asked for."""

    def __init__(self, settings: CacheSettings) -> None:
        """
        Raises:
            BadRequest: a default cannot be read.
        """
        self._max_ttl = settings.max_ttl
        self._max_swr = settings.max_swr
        self._by_tenant = {f"key:{name}": wish_from_words(words) for name, words in settings.key_defaults.items()}
        self._by_role = {name: wish_from_words(words) for name, words in settings.role_defaults.items()}
        self._by_database = {name: wish_from_words(words) for name, words in settings.database_defaults.items()}
        self.has_defaults = settings.is_asked_by_default

    def may_ask(self, headers: Mapping[bytes, bytes], connection_string: bytes, url_query: bytes, body: bytes) -> bool:
        """Whether it is worth a closer look: for most requests the only thing that is asked."""
        return (
            self.has_defaults
            or b"cache" in body
            or CACHE_CONTROL in headers
            or b"cache_" in connection_string
            or b"cache_" in url_query
        )

    def question(
        self, scope: Scope, statement: Statement | None, options: Options, asked: Asked, body: bytes
    ) -> Question | None:
        """What the request asks of the cache; None: nothing. `statement` is None for a batch.

        Raises:
            BadRequest: the wish cannot be read.
        """
        wish = _wish_outside(asked)
        if b"cache" in body:
            inside = wish_from_body(body)
            if statement is not None:
                inside = wish_from_comment(statement.text).over(inside)
            if inside != NO_WISH:
                control = _wish_of_control(asked)
                wish = control.over(inside.over(wish))
        if self.has_defaults:
            wish = wish.over(self._default(scope))
        if wish.ttl is None and not wish.only_if_cached:
            return None
        wish = wish._replace(ttl=_least(wish.ttl, self._max_ttl), swr=_least(wish.swr, self._max_swr))
        if statement is None:
            return Question(scope, Statement(""), b"", wish, "batch")
        refusal = "" if "time" in wish.allow or not _speaks_of_now(statement) else "time"
        return Question(scope, statement, _key(scope, statement, options, asked, wish), wish, refusal)

    def _default(self, scope: Scope) -> Wish:
        by_key = self._by_tenant.get(scope.tenant, NO_WISH)
        by_role = self._by_role.get(scope.role, NO_WISH)
        return by_key.over(by_role.over(self._by_database.get(scope.database, NO_WISH)))


@lru_cache(maxsize=256)
def _wish_outside(asked: Asked) -> Wish:
    """All but the body's; what stands nearer to the request goes before what stands farther away."""
    farther = wish_from_query(asked.url_query).over(wish_from_query(asked.connection_query))
    return _wish_of_control(asked).over(farther)


@lru_cache(maxsize=256)
def _wish_of_control(asked: Asked) -> Wish:
    wish = wish_from_control(asked.control) if asked.control is not None else NO_WISH
    return wish._replace(tags=tags_from_header(asked.tags)) if asked.tags is not None else wish


def _least(value: float | None, most: float) -> float | None:
    return None if value is None else min(value, most)


def _speaks_of_now(statement: Statement) -> bool:
    """Whether a date in it may be today's by its very text: Postgres reads 'now' as the moment."""
    if speaks_of_now(statement.text):
        return True
    return any(
        param is not None and len(param) <= _MAX_CLOCK_TEXT and _CLOCK_PARAM.fullmatch(param) is not None
        for param in statement.params
    )


def _key(scope: Scope, statement: Statement, options: Options, asked: Asked, wish: Wish) -> bytes:
    array_mode = options.array_mode if statement.array_mode is None else statement.array_mode
    own = _OWN_COMMENT.match(statement.text)  # nowhere else: it could be part of a literal there
    text = statement.text if own is None else statement.text[own.end() :]
    digest = hashlib.blake2b(digest_size=20, person=b"sqlhttp.answer.1")
    for part in (
        scope.target.encode(),
        scope.database.encode(),
        scope.role.encode(),
        scope.login.encode(),
        scope.tenant.encode(),
        scope.claims,
        rest_of_query(asked.connection_query),
        " ".join(sorted(wish.allow)).encode(),
        " ".join(sorted(wish.tags)).encode(),
        b"%d%d" % (options.raw_text, array_mode),
        text.encode(),
        *statement.params,
    ):
        # With its length in front no part can pass for another's beginning; NULL is no text at all.
        digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    return digest.digest()
