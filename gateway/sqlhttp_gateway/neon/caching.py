"""What a request says of the result cache, wherever it says it, and how an answer tells what the cache did.

A wish can stand in HTTP's own Cache-Control, in the parameters of the connection string or of the URL (`cache_ttl`,
`cache_swr`, `cache_tags`, `cache_allow`), in the member `cache` of the body, and in a comment in front of the
statement; settings say it with the comment's words. A directive of Cache-Control that means nothing is passed over,
as HTTP wants it; everything else was written for this gateway, and a mistake in it is told.

Whether a statement may be cached is not known here.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import orjson

from sqlhttp_gateway.errors import BadRequest

CACHE_CONTROL = b"cache-control"
CACHE_TAGS = b"sqlhttp-cache-tags"
CACHE_STATUS = b"cache-status"
AGE = b"age"

MAX_TAGS = 64
"""Most tags of one answer."""
MAX_TAG = 200
"""Most characters of one tag."""
MAX_SECONDS = 31_536_000.0
"""A year; the settings bound what counts."""
ALLOWABLE = frozenset({"time", "volatile"})
"""What a program may declare to be no hindrance: functions of time, volatile functions."""

_NAMES = ("ttl", "swr", "tags", "allow")
_TAG = re.compile(r"[^\s,*/\x00-\x1f\x7f]+")
# Possessive throughout, so that a megabyte of blanks is read once.
_COMMENT = re.compile(r"\s*+/\*\s*+cache\s++([^*/]*+)\*/")
_DIRECTIVE = re.compile(r'\s*+([A-Za-z-]++)\s*+(?:=\s*+(?:"([^"]*+)"|([^\s,;"]*+)))?+\s*+(?:,|$)')
_USUAL = 500
"""Characters of a comment that is remembered."""
_BINARY = re.compile(rb"cache_(?:ttl|swr|tags|allow)=")
_OWN = frozenset(f"cache_{name}" for name in _NAMES)


class Wish(NamedTuple):
    """What is asked of the cache. Seconds; None where nothing was said."""

    ttl: float | None = None
    """How old an answer may be."""
    swr: float | None = None
    """For how long after that it may be given while a new one is fetched."""
    tags: tuple[str, ...] = ()
    allow: frozenset[str] = frozenset()
    no_cache: bool = False
    """The answer must be new; it may be kept."""
    no_store: bool = False
    """The answer must be new, and is not kept."""
    only_if_cached: bool = False
    """Nobody is to be asked but the cache."""

    def over(self, other: "Wish") -> "Wish":
        """This wish, and the other's where this says nothing."""
        return Wish(
            other.ttl if self.ttl is None else self.ttl,
            other.swr if self.swr is None else self.swr,
            self.tags or other.tags,
            self.allow or other.allow,
            self.no_cache or other.no_cache,
            self.no_store or other.no_store,
            self.only_if_cached or other.only_if_cached,
        )


NO_WISH = Wish()


def wish_from_control(value: bytes) -> Wish:
    """Cache-Control of a request (RFC 9111, section 5.2.1; stale-while-revalidate of RFC 5861)."""
    given: dict[str, str] = {}
    text, position = value.decode("latin-1"), 0
    while position < len(text):
        match = _DIRECTIVE.match(text, position)
        if match is None:
            _, _, rest = text[position:].partition(",")
            position = len(text) - len(rest) if rest else len(text)
            continue
        given[match[1].lower()] = match[2] or match[3] or ""
        position = match.end()
    return Wish(
        ttl=_delta(given.get("max-age")),
        swr=_delta(given.get("stale-while-revalidate")),
        no_cache="no-cache" in given,
        no_store="no-store" in given,
        only_if_cached="only-if-cached" in given,
    )


def tags_from_header(value: bytes) -> tuple[str, ...]:
    """Sqlhttp-Cache-Tags.

    Raises:
        BadRequest: one of them cannot be a tag.
    """
    return _tags(_decoded(value).split(","), CACHE_TAGS.decode())


def wish_from_query(query: bytes) -> Wish:
    """The wish among a URL's parameters; the others are passed over.

    Raises:
        BadRequest: a value cannot be used.
    """
    if _BINARY.search(query) is None:
        return NO_WISH
    given = {}
    for pair in _decoded(query).partition("#")[0].split("&"):
        name, _, value = pair.partition("=")
        if name in _OWN:
            given[name.removeprefix("cache_")] = unquote_plus(value)
    return _wish(given, "cache_")


def rest_of_query(query: bytes) -> bytes:
    """The parameters that are not about the cache, which may mean something to Postgres."""
    return b"&".join(pair for pair in query.split(b"&") if _BINARY.match(pair) is None)


def wish_from_comment(text: str) -> Wish:
    """The wish in front of a statement: `/* cache ttl=60 swr=30 tags=a,b */`.

    Raises:
        BadRequest: it cannot be read.
    """
    match = _COMMENT.match(text)
    if match is None:
        return NO_WISH
    # A comment may be as long as a body: a thousand of those are not remembered.
    return _usual_wish(match[1]) if match.end(1) - match.start(1) <= _USUAL else wish_from_words(match[1])


def wish_from_words(words: str) -> Wish:
    """`ttl=60 swr=30 tags=a,b allow=time`, as in a comment and in the settings.

    Raises:
        BadRequest: it cannot be read.
    """
    given = {}
    for word in words.split():
        name, equals, value = word.partition("=")
        if name not in _NAMES or not equals:
            raise BadRequest(
                f"cache: {word[:40]!r} is not understood", hint="The form is ttl=60 swr=30 tags=a,b allow=time."
            )
        given[name] = value
    return _wish(given, "")


_usual_wish = lru_cache(maxsize=1024)(wish_from_words)


def wish_from_body(body: bytes) -> Wish:
    """The member `cache` of a body that is known to be a request's: an object with ttl, swr, tags and allow.

    Raises:
        BadRequest: it is not of that shape.
    """
    if b'"cache"' not in body:
        return NO_WISH
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return NO_WISH  # a number that orjson cannot hold; such a body is read elsewhere, and has the other ways to ask
    given = payload.get("cache") if type(payload) is dict else None
    if given is None:
        return NO_WISH
    if type(given) is not dict or not given.keys() <= set(_NAMES):
        raise BadRequest('"cache" must be an object', hint="Its members are ttl, swr, tags and allow.")
    return _wish(given, "cache.")


def encode_status(
    *,
    hit: bool = False,
    ttl: float | None = None,
    forwarded: str = "",
    stored: bool = False,
    collapsed: bool = False,
    detail: str = "",
) -> bytes:
    """The value of Cache-Status (RFC 9211) for an answer that came from the cache or went past it."""
    parts = ["sqlhttp"]
    if hit:
        parts.append("hit")
    if forwarded:
        parts.append(f"fwd={forwarded}")
    if ttl is not None:
        parts.append(f"ttl={int(ttl // 1)}")
    if stored:
        parts.append("stored")
    if collapsed:
        parts.append("collapsed")
    if detail:
        parts.append(f"detail={detail}")
    return "; ".join(parts).encode()


@lru_cache(maxsize=256)
def encode_fresh(ttl: int) -> bytes:
    """`encode_status` of a hit that is fresh for so many seconds still."""
    return encode_status(hit=True, ttl=ttl)


def checked_tags(values: Iterable[Any], what: str) -> tuple[str, ...]:
    """Tags, each once, as they are kept.

    Raises:
        BadRequest: there are too many, or one of them cannot be a tag.
    """
    return _tags(values, what)


def _decoded(value: bytes) -> str:
    """As nearly all programs send text; a browser's fetch has one byte for each letter, of which few are UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _wish(given: Mapping[str, Any], prefix: str) -> Wish:
    tags, allow = (_listed(given.get(name, ()), prefix + name) for name in ("tags", "allow"))
    unknown = set(allow) - ALLOWABLE
    if unknown:
        raise BadRequest(f"{prefix}allow takes {' and '.join(sorted(ALLOWABLE))}, not {sorted(unknown)[0][:40]!r}")
    return Wish(
        ttl=_seconds(given.get("ttl"), prefix + "ttl"),
        swr=_seconds(given.get("swr"), prefix + "swr"),
        tags=_tags(tags, prefix + "tags"),
        allow=frozenset(allow),
    )


def _listed(value: Any, what: str) -> list[str]:
    if isinstance(value, str):
        return value.split(",")
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return list(value)
    raise BadRequest(f"{what} must be a list of strings")


def _tags(values: Iterable[Any], what: str) -> tuple[str, ...]:
    tags: dict[str, None] = {}
    for value in values:
        tag = value.strip() if isinstance(value, str) else value
        if tag == "":
            continue
        if not isinstance(tag, str) or len(tag) > MAX_TAG or _TAG.fullmatch(tag) is None:
            raise BadRequest(
                f"{what}: a tag has at most {MAX_TAG} characters, with no blank, comma, asterisk or slash among them"
            )
        tags[tag] = None
    if len(tags) > MAX_TAGS:
        raise BadRequest(f"{what}: at most {MAX_TAGS} tags, not {len(tags)}")
    return tuple(tags)


def _seconds(value: Any, what: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        seconds = -1.0
    if not isfinite(seconds) or seconds < 0:
        raise BadRequest(f"{what} must be a number of seconds, 0 or more")
    return min(seconds, MAX_SECONDS)


def _delta(value: str | None) -> float | None:
    """HTTP's delta-seconds; what is none counts as not said."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    return min(float(value), MAX_SECONDS) if len(value) < 12 else MAX_SECONDS
