"""Workers of one gateway: what a write through one of them ends is given by none of them."""

import json
from urllib.request import Request, urlopen

from tests.support.cluster import Database
from tests.support.gateway import GatewayProcess, free_port


def test_no_worker_gives_what_a_write_through_another_has_ended(database: Database) -> None:
    """Each request is a connection of its own, so that the kernel spreads them over the workers."""
    database.psql("CREATE TABLE t AS SELECT 0 AS value")
    port = free_port()

    def post(text: str, **headers: str) -> tuple[list[dict[str, int]], str]:
        given = {"Neon-Connection-String": database.url, "Connection": "close", **headers}
        request = Request(f"http://127.0.0.1:{port}/sql", json.dumps({"query": text}).encode(), given)
        with urlopen(request, timeout=10) as answer:
            return json.load(answer)["rows"], answer.headers.get("cache-status", "")

    with GatewayProcess(
        "serve", "--port", str(port), "--workers", "2", environment={"DATABASE_URL": database.url}
    ) as gateway:
        gateway.wait_until_ready(f"http://127.0.0.1:{port}")
        hits = 0
        for value in range(1, 30):
            post(f"UPDATE t SET value = {value}")
            for _ in range(6):
                rows, status = post("SELECT value FROM t", **{"Cache-Control": "max-age=600"})
                assert rows == [{"value": value}], status
                hits += "hit" in status
        assert hits > 29
        assert gateway.stop() == 0
