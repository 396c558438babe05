"""A running gateway takes its short ways: it would be slower without, and nobody would notice."""

from collections.abc import Callable

import pytest

from sqlhttp_gateway.endpoints.lane import LaneProtocol
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.sql.hits import Hit
from tests.support.program import Program
from tests.support.sockets import begin


@pytest.mark.parametrize("text", ["SELECT 1", "BEGIN"])
async def test_second_request_of_a_connection_goes_past_asgi(
    start_program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    begun: list[bool] = []
    asked: list[bytes] = []
    lane, quick = LaneProtocol._begin, Quick.begin

    def noted(self: LaneProtocol, body: bytes) -> None:
        asked.append(body)
        lane(self, body)

    def quickly(self: Quick, *args: object) -> object:
        errand = quick(self, *args)  # type: ignore[arg-type]
        begun.append(errand is not None)
        return errand

    monkeypatch.setattr(LaneProtocol, "_begin", noted)
    monkeypatch.setattr(Quick, "begin", quickly)
    program = start_program()
    request = await begin(program, {"query": text}, kept=True)
    assert (await request.answer()).status == 200
    assert len(asked) == 1
    assert begun == [text == "SELECT 1"]


async def test_program_with_a_connection_for_each_request_goes_past_asgi_from_its_second_on(
    start_program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    lane = LaneProtocol._begin

    def noted(self: LaneProtocol, body: bytes) -> None:
        asked.append(body)
        lane(self, body)

    monkeypatch.setattr(LaneProtocol, "_begin", noted)
    program = start_program()
    answers = [await (await begin(program, {"query": "SELECT 1"})).answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert len(asked) == 2


async def test_answer_of_the_cache_goes_past_asgi_and_past_the_service(
    start_program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bytes] = []
    deliver = LaneProtocol.deliver_kept

    def noted(self: LaneProtocol, request_id: str, hit: Hit) -> None:
        kept.append(hit.body)
        deliver(self, request_id, hit)

    monkeypatch.setattr(LaneProtocol, "deliver_kept", noted)
    program = start_program()
    body = {"query": "/* cache ttl=60 */ SELECT 1 AS one"}
    answers = [await (await begin(program, body, kept=True)).answer() for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.body for answer in answers] == [kept[0], kept[0]]
    assert len(kept) == 1
    assert "hit" in answers[1].headers["cache-status"]
