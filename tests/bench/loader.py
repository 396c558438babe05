"""The suite's own source of load, a process that stays: `python -m tests.bench.loader`.

It takes one order a line on stdin and answers one line on stdout, both JSON; the end of stdin ends it. Orders:

{"do": "http", "port", "requests": […], "connections", "seconds", "most", "keep_alive"}
{"do": "open", "port", "requests": […], "connections", "seconds"}
{"do": "ask", "seconds", "most"}
{"do": "direct", "how", "url", "statement", "arguments": […], "batch", "connections", "seconds", "most"}

`most` bounds the calls. Every caller waits for its answer before it asks again, so nothing is under way at the end.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from tests.bench.direct import Direct
from tests.bench.over_http import Kept, http
from tests.bench.tally import CALL_TIMEOUT


async def main() -> None:
    """Serve orders until stdin ends."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as kept:
        direct, connections = Direct(kept), Kept()
        doers = {"http": http, "direct": direct.run, "open": connections.open, "ask": connections.ask}
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            async with asyncio.timeout(order["seconds"] + CALL_TIMEOUT):
                summary = await doers[order["do"]](order)
            print(json.dumps(summary), flush=True)


def run() -> None:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())


if __name__ == "__main__":
    run()
