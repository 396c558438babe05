"""A program that posts to /sql with no driver between."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster
from tests.support.gateway import Gateway
from tests.support.program import Program, program_of, scratch_database


@pytest.fixture(scope="module")
def program(postgres: Cluster, gateway: Gateway) -> Iterator[Program]:
    """Literal requests, as the superuser of a database that the file's tests share."""
    with scratch_database(postgres) as database, program_of(gateway, database) as program:
        yield program
