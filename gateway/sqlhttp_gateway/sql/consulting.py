"""A request asks the cache: whether it does, whether it came before, and what is run as its caller to answer it."""

from collections.abc import Mapping

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.cache.policy import Asked, Question
from sqlhttp_gateway.cached import CachedAnswers, Fetched, Outcome
from sqlhttp_gateway.limits import Quota
from sqlhttp_gateway.model import Batch, Options, Result, Statement
from sqlhttp_gateway.neon.headers import JSON_HEADERS
from sqlhttp_gateway.pools.view import Fate
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql.access import Ways
from sqlhttp_gateway.sql.carrier import Carrier
from sqlhttp_gateway.sql.replies import reply_with
from sqlhttp_gateway.sql.routing import bookmark_of
from sqlhttp_gateway.story import Story


class Consulting:
    """Takes requests to the cache."""

    def __init__(self, cached: CachedAnswers, ways: Ways, carrier: Carrier) -> None:
        self.cached = cached
        self.ways = ways
        self.carrier = carrier

    def wish(
        self, headers: Mapping[bytes, bytes], connection_string: bytes, url_query: bytes, body: bytes
    ) -> "CacheWish | None":
        """What a request may wish of the cache; None: nothing, as nearly all."""
        asked = self.cached.may_ask(headers, connection_string, url_query, body)
        return CacheWish(self, asked, headers, connection_string, body) if asked is not None else None


class CacheWish:
    """One request that may ask for a kept answer."""

    __slots__ = ("_asked", "_body", "_connection_string", "_consulting", "_headers", "_question")

    def __init__(
        self,
        consulting: Consulting,
        asked: Asked,
        headers: Mapping[bytes, bytes],
        connection_string: bytes,
        body: bytes,
    ) -> None:
        self._consulting = consulting
        self._asked = asked
        self._headers = headers
        self._connection_string = connection_string
        self._body = body
        self._question: Question | None = None

    def recall(self, caller: Caller, options: Options) -> Statement | None:
        """The request, if the very bytes came before, and need not be read again."""
        self._question = self._consulting.cached.recognize(caller, options, self._asked, self._body)
        return self._question.statement if self._question is not None else None

    async def outcome(
        self, caller: Caller, request: Statement | Batch, options: Options, quota: Quota | None, story: Story
    ) -> Outcome | None:
        """The cache's answer, or why it has none; None: it was not asked.

        Raises:
            BadRequest: the wish, or the bookmark, cannot be read.
            NotCached: only the cache was to be asked, and has no answer.
            GatewayError: the statement failed.
        """
        cached, ways, carrier = self._consulting.cached, self._consulting.ways, self._consulting.carrier
        question = self._question or cached.question(caller, request, options, self._asked, self._body)
        if question is None:
            return None
        group = caller.pool.upstream.group
        if group is not None:
            question = question._replace(bookmark=bookmark_of(self._headers))
            if question.bookmark and group.current.view.fate(question.bookmark) is not Fate.KEPT:
                return None  # what becomes of it is the route's to say
        asked = question

        async def fetch() -> Fetched:
            access = await ways.of(caller, self._connection_string, quota)
            results, types, positions = await carrier.read(access, asked.statement, options, story, asked)
            body = reply_with(results, asked.statement, options, story, types=types).body
            if positions is None:
                return Fetched(body, results[0].row_count)
            return Fetched(body, results[0].row_count, positions.since, positions.bookmark)

        async def run(batch: Batch, its_options: Options) -> list[Result]:
            access = await ways.of(caller, self._connection_string, quota)
            return (await carrier.read(access, batch, its_options, story)).results

        return await cached.answer(question, fetch, run)


def cached_reply(outcome: Outcome, story: Story) -> Reply | None:
    """The reply that the cache had; None: it had none."""
    if outcome.entry is None:
        return None
    story.succeeded((outcome.entry.row_count,))
    return Reply(200, (*JSON_HEADERS, *outcome.headers), story.request_id, outcome.entry.body)
