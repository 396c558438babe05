"""The cache when another server of its target becomes the primary: what is said there is heard."""

from collections.abc import Callable

import httpx

from tests.support.cluster import PASSWORD
from tests.support.fleet import running_fleet
from tests.support.gateway import gateway_in_thread
from tests.support.program import program_of

TAGGED = {"Cache-Control": "max-age=60", "Sqlhttp-Cache-Tags": "kept"}
VALUE = {"query": "SELECT v FROM kept"}
SAY = "UPDATE kept SET v = {}; NOTIFY sqlhttp_invalidate, 'kept'"


def test_word_of_the_primary_is_heard_before_and_after_a_promotion() -> None:
    """The first server in the list is a standby, which refuses LISTEN."""
    with running_fleet(1) as fleet:
        primary, replica = fleet.servers
        primary.maintenance.psql("CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept VALUES (1, 0)")
        fleet.wait_replayed()
        places = f"{replica.host}:{replica.port},{primary.host}:{primary.port}"
        with (
            gateway_in_thread(f"postgres://postgres:{PASSWORD}@{places}/postgres", {}) as gateway,
            program_of(gateway, primary.maintenance) as program,
        ):

            def ask() -> httpx.Response:
                response = program.post(VALUE, TAGGED)
                assert response.status_code == 200, response.text
                return response

            def value() -> int:
                return int(ask().json()["rows"][0]["v"])

            def is_kept_and_heard() -> bool:
                """Answers that were fetched before anybody listened end when somebody does."""
                return all("; hit" in ask().headers["cache-status"] for _ in range(200))

            poll(is_kept_and_heard)
            primary.maintenance.psql(SAY.format(1))
            poll(lambda: value() == 1)
            fleet.wait_replayed()
            primary.stop()
            fleet.promote(replica)
            poll(lambda: program.post({"query": "UPDATE kept SET v = 2"}).status_code == 200)
            poll(lambda: value() == 2)
            for turn in (3, 4):
                poll(is_kept_and_heard)
                replica.maintenance.psql(SAY.format(turn))
                poll(lambda turn=turn: value() == turn)  # type: ignore[misc]


def poll(condition: Callable[[], bool]) -> None:
    """Until it is so; each try takes as long as a request."""
    for _ in range(5000):
        if condition():
            return
    raise AssertionError("it does not become so")
