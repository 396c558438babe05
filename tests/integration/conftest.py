"""What the tests of the whole gateway on a real Postgres share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.program import Program, program_of


@pytest.fixture
def start_program(database: Database, start_gateway: Callable[..., Gateway]) -> Iterator[Callable[..., Program]]:
    """A program before a gateway of its own, on the test's database: `start_program(pool={"max_size": 1})`."""
    with ExitStack() as open_programs:

        def start(**settings: Any) -> Program:
            return open_programs.enter_context(program_of(start_gateway(**settings), database))

        yield start
