"""The whole life of one `/sql` request, in order: who asks, for what, on which connection, and what it got.

Whoever reads `answer` knows the gateway. It knows neither HTTP's frames nor Postgres's: bytes of headers and body come
in, a Reply goes out, and what happened is told to the observer. How each step is done stands in `sql`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from sqlhttp_gateway.auth.allowed import check_statements
from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.deadline import Deadline, deadline_for
from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.limits import Quota, Quotas
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.neon.headers import (
    AUTHORIZATION,
    CONNECTION_STRING,
    CONTENT_ENCODING,
    HOST,
    IDEMPOTENCY_KEY,
    ORIGIN,
    TIMEOUT,
    options_from_headers,
)
from sqlhttp_gateway.neon.request import decode_request, why_unread
from sqlhttp_gateway.neon.traceparent import TRACEPARENT
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql.access import Ways, reads_only
from sqlhttp_gateway.sql.carrier import Carrier
from sqlhttp_gateway.sql.consulting import Consulting, cached_reply
from sqlhttp_gateway.sql.once import Once
from sqlhttp_gateway.sql.routing import Routed
from sqlhttp_gateway.story import Story, Telling


class SqlService:
    """Answers requests. Holds nothing of any of them once it has answered."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        quotas: Quotas,
        ways: Ways,
        routed: Routed,
        carrier: Carrier,
        once: Once,
        consulting: Consulting | None,
        observe: Observer,
        telling: Telling,
        most_seconds: float = 0.0,
    ) -> None:
        """Without `consulting` there is no cache. A request may take `most_seconds`; 0: any time."""
        self._authenticator = authenticator
        self._quotas = quotas
        self._ways = ways
        self._routed = routed
        self._carrier = carrier
        self._once = once
        self._consulting = consulting
        self._observe = observe
        self._telling = telling
        self._most_seconds = most_seconds

    def reconfigure(self, *, limits: Limits, telling: Telling, most_seconds: float = 0.0) -> None:
        """Go by these from the next request on."""
        self._carrier.limits = limits
        self._telling = telling
        self._most_seconds = most_seconds

    async def answer(
        self, headers: Mapping[bytes, bytes], body: bytes, *, peer: str = "", url_query: bytes = b""
    ) -> Reply:
        """The reply to one request from the address `peer`, an error's included; never raises but for cancellation."""
        story = Story(self._telling, traceparent=headers.get(TRACEPARENT), bytes_in=len(body))
        reply: Reply | None = None
        quota: Quota | None = None
        deadline: Deadline | None = None
        try:
            if TIMEOUT in headers or self._most_seconds:
                deadline = deadline_for(headers.get(TIMEOUT), self._most_seconds)
            # What is wrong first is told first: header, connection string, body, password, as with Neon.
            options = options_from_headers(headers)
            connection_string = headers.get(CONNECTION_STRING, b"")
            authorization = headers.get(AUTHORIZATION)
            host = headers.get(HOST, b"") if self._authenticator.heeds_host else b""
            consulting, wish, outcome = self._consulting, None, None
            if consulting is not None:
                wish = consulting.wish(headers, connection_string, url_query, body)
            caller = self._authenticator.recall(connection_string, authorization, host)
            if caller is None:
                caller, request = await self._meet(connection_string, authorization, host, body, story, peer)
            else:
                known = wish.recall(caller, options) if wish is not None else None
                request = story.asked = decode_request(body) if known is None else known
            story.target, story.database, story.role = caller.target, caller.database, caller.role
            if caller.allowance is not None:
                quota = self._quotas.admit(caller.tenant, caller.allowance)
            if (grant := caller.grant) is not None:
                story.tenant = grant.tenant
                grant.admit(peer=peer, origin=_text(headers.get(ORIGIN)))
            story.is_proven = True
            if grant is not None:
                check_statements(grant, request)
            if wish is not None and (outcome := await wish.outcome(caller, request, options, quota, story)):
                reply = cached_reply(outcome, story)
            if reply is None:
                access = await self._ways.of(caller, connection_string, quota)
                if deadline is not None:
                    access = replace(access, password=deadline.watching(access.password))
                if options.read_only:
                    access = access.reading()
                if caller.pool.upstream.group is not None:
                    access = await self._routed.access(access, headers, request, options, story)
                key = headers.get(IDEMPOTENCY_KEY)
                if key is None or reads_only(request, options, grant):
                    reply = await self._carrier.run(access, request, options, story)
                else:
                    reply = await self._once.run(key, body, access, request, options, story)
                if outcome is not None:
                    reply = reply._replace(headers=(*reply.headers, *outcome.headers))
        except GatewayError as error:
            if quota is not None:
                self._carrier.explain(error, quota.allowance)
            coding = headers.get(CONTENT_ENCODING)
            reply = story.refused(error if coding is None else why_unread(error, coding))
        except Exception as error:
            reply = story.broke(error, self._observe)
        except asyncio.CancelledError:
            if deadline is None or not deadline.has_ended():
                raise
            reply = story.refused(story.late(deadline))
        finally:
            if deadline is not None:
                deadline.drop()
            if story.route is not None:
                story.route.close(self._observe)
            if reply is not None:
                reply = story.finished(reply, self._telling)
            story.tell(reply, self._telling, self._observe)
        return reply if deadline is None else reply._replace(due=story.due(deadline))

    async def _meet(
        self, connection_string: bytes, authorization: bytes | None, host: bytes, body: bytes, story: Story, peer: str
    ) -> tuple[Caller, Statement | Batch]:
        """Who asks for what, when it is nobody who was here a short while ago."""
        dsn = None
        if connection_string or authorization is None:
            dsn = dsn_from_header(connection_string or None)
            story.database, story.role = dsn.database, dsn.role
        request = story.asked = decode_request(body)
        caller = await self._authenticator.authenticate(dsn, connection_string, authorization, host, peer=peer)
        return caller, request


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
