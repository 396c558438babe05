"""The wall clock of a gateway jumps; nothing that should not has it noticed."""

import asyncio
from pathlib import Path

import pytest

from tests.faults import clocks
from tests.faults.world import made


@pytest.mark.skipif(not clocks.is_possible(), reason="libfaketime is not installed")
def test_nothing_but_tokens_notices_that_the_wall_clock_jumps(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    with made(settings=clocks.environment(offset)) as world:
        assert asyncio.run(clocks.jump(world, offset)) == []
        assert len(clocks.days_logged(world)) == 3, "the clock has moved"
