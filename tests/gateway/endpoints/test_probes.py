"""Alive, and ready: what a load balancer is told."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from sqlhttp_gateway.endpoints import probes
from sqlhttp_gateway.endpoints.probes import Readiness, livez, readyz
from sqlhttp_gateway.errors import TargetUnavailable
from tests.support.asgi import Call, piece
from tests.support.cluster import Database
from tests.support.complaints import no_complaints
from tests.support.gateway import gateway_in_thread
from tests.support.leases import Leases, leases, refusal, until


class Place:
    """The two endpoints, and how often Postgres was asked."""

    def __init__(self, lending: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lending = lending
        self.readiness = Readiness(lending.registry, lending.targets)
        self.asked = 0
        self.fails: Exception | None = None
        self._app = Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz)])
        ask = probes.ask

        async def counted(lease: Any, text: str) -> Any:
            self.asked += 1
            if self.fails is not None:
                raise self.fails
            return await ask(lease, text)

        monkeypatch.setattr(probes, "ask", counted)

    async def get(self, path: str) -> Call:
        call = Call(piece(b""), method="GET", path=path)
        call.scope["state"] = {"readiness": self.readiness}
        return await call.of(self._app)


@pytest.fixture
async def place(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    async with leases(database, pool={"max_size": 1}) as lending:
        yield Place(lending, monkeypatch)


async def test_alive_without_asking_anybody(place: Place) -> None:
    call = await place.get("/livez")
    assert (call.status, call.json()) == (200, {"status": "live"})
    assert place.asked == 0
    assert len(call.headers["neon-request-id"]) == 36
    assert call.headers["cache-control"] == "no-store"


async def test_ready_when_postgres_answers(place: Place) -> None:
    call = await place.get("/readyz")
    assert (call.status, call.json()) == (200, {"status": "ready"})
    assert place.lending.registry.connections == 1


async def test_answer_is_believed_for_a_moment(place: Place) -> None:
    for _ in range(5):
        await place.get("/readyz")
    assert place.asked == 1
    place.readiness._believed_until = 0.0
    await place.get("/readyz")
    assert place.asked == 2


async def test_probes_at_once_share_one_question(place: Place) -> None:
    calls = await asyncio.gather(*(place.get("/readyz") for _ in range(20)))
    assert {call.status for call in calls} == {200}
    assert place.asked == 1


async def test_not_ready_when_postgres_does_not_answer_and_ready_again_when_it_does(place: Place) -> None:
    place.fails = TargetUnavailable("target default: cannot connect to Postgres: Connection refused")
    call = await place.get("/readyz")
    assert call.status == 503
    assert call.json() == {"status": "unready", "reason": place.fails.message}  # type: ignore[attr-defined]
    place.fails = None
    assert (await place.get("/readyz")).status == 200


async def test_no_connection_to_be_had_is_not_ready(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with leases(database, pool={"max_size": 1, "wait_timeout": 0.05}) as lending:
        place = Place(lending, monkeypatch)
        lease = await lending.lease()
        call = await place.get("/readyz")
        assert call.status == 503
        assert "0.05 s" in call.json()["reason"]
        lease.release()
        assert (await place.get("/readyz")).status == 200


async def test_not_ready_while_it_drains_although_postgres_answers(place: Place) -> None:
    assert (await place.get("/readyz")).status == 200
    place.readiness.is_draining = True
    call = await place.get("/readyz")
    assert (call.status, call.json()) == (503, {"status": "draining"})
    assert (await place.get("/livez")).status == 200


async def test_ready_while_requests_wait_for_a_paused_database(place: Place) -> None:
    await place.lending.registry.pause(None)
    assert (await place.get("/readyz")).status == 200
    assert place.asked == 0
    place.lending.registry.resume(None)


async def test_probe_that_hangs_up_leaves_the_question_to_the_others(place: Place) -> None:
    place.fails = TargetUnavailable("away")
    first = asyncio.create_task(place.readiness.check())
    second = asyncio.create_task(refusal(place.readiness.check()))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, TargetUnavailable)
    assert first.cancelled()


async def test_question_that_everybody_has_left_fails_in_silence(place: Place) -> None:
    place.fails = TargetUnavailable("away")
    with no_complaints():
        task = asyncio.create_task(place.readiness.check())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await until(lambda: place.asked == 1)
        await place.lending.settled()
        assert task.cancelled()
        place.readiness._asking = None
        del task


def test_gateway_without_its_postgres_is_live_and_says_why_it_is_not_ready() -> None:
    away = "postgres://ada:hunter2@127.0.0.1:1/app"
    with (
        gateway_in_thread(away, {"watch": {"interval": 0}}) as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False) as http,
    ):
        assert http.get("/livez").status_code == 200
        unready = http.get("/readyz")
    assert unready.status_code == 503
    assert unready.json()["reason"] == "target default: cannot connect to Postgres: Connection refused"
