"""What a request had in hand goes with its answer: nothing of it waits for a collection of garbage.

Python's collector counts objects and not bytes: a few hundred refused bodies of 10 MiB each would fit between two of
its looks.
"""

import gc
from collections.abc import Callable, Iterator

import httpx
import pytest

from sqlhttp_gateway.model import Statement
from tests.support.leases import until
from tests.support.program import Program
from tests.support.sockets import begin

LONG = "x" * 100_000
BY_ZERO = "SELECT 1 / (length($1) - 100000)"
FAILS = {"query": BY_ZERO, "params": [LONG]}


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def held() -> int:
    """Statements with the long parameter that are in memory."""
    return sum(type(each) is Statement and each.params == (LONG.encode(),) for each in gc.get_objects())


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"query": "SELECT length($1)", "params": [LONG]}, {}, 200),
        (FAILS, {}, 400),
        ({"queries": [FAILS]}, {}, 400),
        ({"queries": [FAILS, {"query": "SELECT 1"}]}, {"neon-batch-isolation-level": "Serializable"}, 400),
        ({"query": "SELECT no_such_column, $1", "params": [LONG]}, {}, 400),
        (FAILS | {"query": f"/* cache ttl=60 */ {BY_ZERO}"}, {}, 400),
        ({"query": "/* cache ttl=60 */ SELECT 1 / 0, $1", "params": [LONG]}, {}, 400),
        ({"query": "/* cache ttl=60 */ SELECT now(), length($1)", "params": [LONG]}, {}, 200),
        (FAILS, {"idempotency-key": "held"}, 400),
        (FAILS, {"sqlhttp-timeout": "20"}, 400),
    ],
    ids=[
        "answered",
        "refused",
        "batch",
        "transaction",
        "parse",
        "cache",
        "cache, not explained",
        "not cached",
        "once",
        "deadline",
    ],
)
async def test_body_goes_with_its_answer(
    start_program: Callable[..., Program], body: object, headers: dict[str, str], status: int
) -> None:
    program = start_program()
    headers = {"neon-connection-string": program.connection_string, "neon-raw-text-output": "true"} | headers
    async with httpx.AsyncClient() as http:
        for _ in range(3):  # by uvicorn's way, by the short one, and by what is prepared
            answer = await http.post(program.endpoint, headers=headers, json=body)
            assert answer.status_code == status
    await until(lambda: held() == 0)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("text", ["SELECT pg_sleep(60), $1", "/* cache ttl=60 */ SELECT pg_sleep(60), $1"])
async def test_body_goes_with_its_program(start_program: Callable[..., Program], text: str, *, kept: bool) -> None:
    program = start_program()
    request = await begin(program, {"query": text, "params": [LONG]}, kept=kept)
    await until(lambda: held() > 0)
    await request.hang_up()
    await until(lambda: held() == 0)
