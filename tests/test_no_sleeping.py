"""No test sleeps in order to wait.

It waits for the event, moves a clock, or looks again and again: then the sleep stands in a `while` whose condition is
what is waited for. Loads that are no tests, in bench and faults, go by time and are not looked at.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent

ALLOWED = {
    "gateway/endpoints/test_guarded.py _trickle": "a program that sends slowly",
    "gateway/pools/test_lease.py test_late_cancel_never_hits_the_next_statement": "cancels at any moment",
    "gateway/pools/test_pool.py visit": "cancels at any moment",
    "gateway/test_deadline.py run": "ended by the deadline, which is what is tested",
    "integration/test_program_gone.py hang_up": "programs leave at any moment",
    "integration/test_target_down.py test_swap_behind_a_pause_fails_no_request_and_no_tunnel_s_transaction": (
        "a pause of some length, in which time does not count"
    ),
    "support/bad_network.py _happen": "a network that is slow",
}
"""Functions that sleep although they look at nothing afterwards, and what the time is."""


def files() -> Iterator[Path]:
    for path in HERE.rglob("*.py"):
        place = path.relative_to(HERE)
        if "node_modules" not in place.parts and (place.name.startswith("test_") or place.parts[0] == "support"):
            yield path


def sleepers(code: ast.AST, function: str = "", *, repeats: bool = False) -> Iterator[str]:
    """Names of the functions in it that sleep for some time outside of a `while` of their own."""
    for node in ast.iter_child_nodes(code):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from sleepers(node, name)
            case ast.While():
                yield from sleepers(node, function, repeats=True)
            case ast.Call(func=ast.Name(id="sleep") | ast.Attribute(attr="sleep"), args=[time]) if not repeats:
                if not (isinstance(time, ast.Constant) and time.value == 0):  # 0 lets the loop turn
                    yield function
            case _:
                yield from sleepers(node, function, repeats=repeats)


def found() -> set[str]:
    texts = {path: path.read_text() for path in files()}
    return {
        f"{path.relative_to(HERE).as_posix()} {function}"
        for path, text in texts.items()
        if "sleep(" in text
        for function in sleepers(ast.parse(text))
    }


def test_whoever_sleeps_looks_again_afterwards() -> None:
    assert found() - set(ALLOWED) == set(), "wait for the event, poll with a deadline, or move a clock"


def test_the_exceptions_are_real() -> None:
    assert set(ALLOWED) - found() == set()


def test_a_sleep_is_seen_wherever_it_stands() -> None:
    code = """
async def waits():
    for _ in range(3):
        await asyncio.sleep(0.1)
def outer():
    def inner():
        time.sleep(seconds)
    while True:
        def nested():
            sleep(1)
async def looks():
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while not is_there():
            if again:
                await asyncio.sleep(0.01)
"""
    assert list(sleepers(ast.parse(code))) == ["waits", "inner", "nested"]
