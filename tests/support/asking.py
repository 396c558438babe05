"""A program whose requests are begun by the gateway's quick way, without HTTP before it."""

import asyncio
import json
from typing import Any

from sqlhttp_gateway.neon.caching import AGE, CACHE_STATUS
from sqlhttp_gateway.neon.headers import JSON_HEADERS
from sqlhttp_gateway.neon.response import Pieces
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql.asker import Asker
from sqlhttp_gateway.sql.errand import Errands
from sqlhttp_gateway.sql.hits import Hit
from tests.support.running_app import RunningApp

LEFT_TO_SERVICE = "for the service"
_DEADLINE = 20.0  # seconds


class Asking:
    """A program on one connection, whose password is proven."""

    def __init__(self, app: RunningApp, **headers: str) -> None:
        self.app = app
        endpoint = app.app.lane
        assert endpoint is not None
        assert endpoint.quick is not None
        self.endpoint = endpoint
        self.quick: Quick = endpoint.quick
        given = {"neon-connection-string": app.database.url, "neon-raw-text-output": "true"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.headers = {name.encode(): value.encode() for name, value in given.items()}
        found = self.quick.asker(self.headers)
        assert found is not None
        self.asker: Asker = found

    @property
    def errands(self) -> Errands:
        """What its requests go by."""
        return self.quick._errands

    @property
    def pool(self) -> Pool:
        [pool] = self.errands.registry.pools
        return pool

    async def of_service(self, body: object) -> Reply:
        """The judge's reply."""
        return await self.endpoint.answer(self.headers, encoded(body), None)

    async def of_quick(self, body: object) -> Reply | str:
        """The quick reply; `LEFT_TO_SERVICE` when the request was left to the service, at first or later."""
        _, answer = self.begin(body)
        async with asyncio.timeout(_DEADLINE):
            return await answer

    def of_cache(self, body: object) -> Reply | str:
        """What the cache has for it at once."""
        answer: asyncio.Future[Reply | str] = asyncio.get_running_loop().create_future()
        was_kept = self.quick.answer_kept(self.asker, encoded(body), _Receiver(answer))
        assert was_kept == answer.done()
        return answer.result() if was_kept else LEFT_TO_SERVICE

    def begin(self, body: object) -> tuple[Any, "asyncio.Future[Reply | str]"]:
        answer: asyncio.Future[Reply | str] = asyncio.get_running_loop().create_future()
        errand = self.quick.begin(self.asker, encoded(body), _Receiver(answer))
        if errand is None:
            answer.set_result(LEFT_TO_SERVICE)
        return errand, answer


class _Receiver:
    """Keeps what it is told."""

    def __init__(self, answer: "asyncio.Future[Reply | str]") -> None:
        self._answer = answer

    def deliver(self, reply: Reply | None) -> None:
        self._answer.set_result(LEFT_TO_SERVICE if reply is None else reply)

    def deliver_plain(self, request_id: str, timing: bytes, body: bytes | Pieces) -> None:
        self._answer.set_result(Reply(200, JSON_HEADERS, request_id, bytes(body), timing))

    def deliver_kept(self, request_id: str, hit: Hit) -> None:
        headers = (*JSON_HEADERS, (CACHE_STATUS, hit.status), (AGE, b"%d" % hit.age))
        self._answer.set_result(Reply(200, headers, request_id, hit.body))


def encoded(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def one(text: str, *params: object, **members: object) -> dict[str, object]:
    return {"query": text, "params": list(params), **members}
