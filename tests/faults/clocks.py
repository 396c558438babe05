"""The wall clock jumps by a day, forward and back: only what stands on it by its meaning may notice.

libfaketime, where it is installed, moves the clock of one gateway's process; its monotonic clock, which deadlines,
limits and lifetimes are to go by, stays as it is.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.faults.grants import token
from tests.faults.world import World

_LIBRARIES = tuple(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))
_JUMPS = ("+1d", "+0", "-1d", "+0")
_MARGIN = 5.0
"""Seconds that an answer may come late on a busy machine; by a clock that has jumped it would be at once or never."""
_DEADLINE = 0.5
_PATIENCE = 30.0
_LONG = {"query": "SELECT pg_sleep(0.5)"}
_IS_RUNNING = {
    "query": "SELECT 1 FROM pg_stat_activity WHERE query = $1 AND state = 'active'",
    "params": [_LONG["query"]],
}


def is_possible() -> bool:
    """libfaketime is there."""
    return bool(_LIBRARIES)


def environment(offset: Path) -> Mapping[str, str]:
    """Of a gateway whose clock is moved by what the file says."""
    offset.write_text("+0")
    return {
        "LD_PRELOAD": str(_LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "SQLHTTP_LOG__FORMAT": "json",
    }


async def jump(world: World, offset: Path) -> list[str]:
    """Move the clock of the world's gateway to and fro, with requests under way; what is false of them."""
    faults: list[str] = []
    async with httpx.AsyncClient(base_url=world.gateway.url, timeout=30) as http:
        plain = {"Neon-Connection-String": world.database.url}
        cached = plain | {"Cache-Control": "max-age=600"}
        keyed = plain | {"Idempotency-Key": "before-all-jumps"}
        member = {"Neon-Connection-String": world.database.as_role("member", token("ann")).url}
        read = {"query": "SELECT a FROM shape"}
        write = {"query": "INSERT INTO written (tag) VALUES ('clock') RETURNING tag"}

        async def post(headers: Mapping[str, str], body: object) -> httpx.Response:
            return await http.post("/sql", json=body, headers=dict(headers))

        first = await post(cached, read)
        await post(keyed, write)
        if first.status_code != 200 or (await post(member, {"query": "SELECT 1"})).status_code != 200:
            faults.append("nothing works before the first jump")
        for where in _JUMPS:
            # What was cancelled a moment ago may still end answers: it could have written.
            async with asyncio.timeout(_PATIENCE):
                while not _is_hit(await post(cached, read)):
                    pass
            offset.write_text(where)  # noqa: ASYNC240 - three bytes
            if not _is_hit(again := await post(cached, read)):
                faults.append(f"{where}: a cached answer is gone: {again.headers.get('cache-status')}")
            began = time.monotonic()
            late = await post(plain | {"Sqlhttp-Timeout": str(_DEADLINE)}, {"query": "SELECT pg_sleep(20)"})
            took = time.monotonic() - began
            if late.status_code != 504 or not _DEADLINE - 0.1 <= took <= _DEADLINE + _MARGIN:
                faults.append(f"{where}: a deadline of {_DEADLINE} s came after {took:.2f} s, {late.status_code}")
            if (await post(keyed, write)).status_code != 200:
                faults.append(f"{where}: a write under a key was not answered once more")
            # It has expired, or the database's clock is far from that by which its claims are signed.
            came = (await post(member, {"query": "SELECT 1"})).status_code
            if (came == 200) is not (where == "+0"):
                faults.append(f"{where}: a token for an hour was answered {came}")
        for where in _JUMPS:
            running = asyncio.create_task(post(plain, _LONG))
            async with asyncio.timeout(_PATIENCE):
                while not running.done() and not (await post(plain, _IS_RUNNING)).json().get("rows"):
                    pass
            offset.write_text(where)  # noqa: ASYNC240 - three bytes
            if (answer := await running).status_code != 200:
                faults.append(f"{where}: a statement under way was answered {answer.status_code}")
        rows = await post(plain, {"query": "SELECT count(*)::int AS n FROM written WHERE tag = 'clock'"})
        if rows.status_code == 200 and rows.json()["rows"] != [{"n": 1}]:
            faults.append(f"a write under a key is there {rows.json()['rows']} times")
    return faults


def _is_hit(answer: httpx.Response) -> bool:
    return "hit" in answer.headers.get("cache-status", "")


def days_logged(world: World) -> set[str]:
    """The days that stand in the gateway's log, by which one sees that its clock has moved."""
    return {line.partition('"20')[2][:8] for line in world.log.read_text().splitlines() if '"20' in line}
