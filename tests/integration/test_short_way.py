"""A running gateway takes its short ways: it would be slower without, and nobody would notice."""

from collections.abc import Callable

import pytest

from sqlhttp_gateway.endpoints.lane import LaneProtocol
from sqlhttp_gateway.quick import Quick
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
