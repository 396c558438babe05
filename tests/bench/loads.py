"""Sources of load: wrk where it is installed, else, and for whatever wrk cannot do, the suite's own loader.

Either gives back a Sample, with the CPU time and memory of the process that answered read around it.
"""

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from tests.bench.measure import Sample, family_cpu_seconds, family_mib
from tests.bench.processes import Process, environment, python

MOST = 1_000_000
"""Bounds the calls of one run where nothing else does."""
_PATIENCE = 60.0  # seconds beyond its time after which a source of load counts as stuck

WRK = shutil.which("wrk")

# In `done`, wrk's latencies are microseconds.
_LUA = """
wrk.method = "POST"
{headers}
wrk.body = {first}
{many}
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"us":%d,"p50":%d,"p99":%d,"status":%d,"socket":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""
_LUA_MANY = """
local bodies = {{ {bodies} }}
local requests, turn = {{}}, 0
init = function(args)
  for i, body in ipairs(bodies) do requests[i] = wrk.format(nil, nil, nil, body) end
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


def wrk(
    server: Process, bodies: Sequence[bytes], headers: Mapping[str, str], *, connections: int, seconds: float
) -> Sample:
    """Keep-alive connections from one wrk thread to POST /sql; wrk counts in whole seconds, so they are rounded up."""
    assert WRK is not None
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua_script(bodies, headers))
        script.flush()
        command = [
            *(WRK, "--threads", "1", "--connections", str(connections), "--duration", f"{math.ceil(seconds)}s"),
            *("--timeout", "20s", "--script", script.name, f"http://127.0.0.1:{server.port}/sql"),
        ]

        def run() -> dict[str, Any]:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
            try:
                output, errors = process.communicate(timeout=seconds + _PATIENCE)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if process.returncode:
                raise RuntimeError(f"wrk ended with {process.returncode}: {errors.decode()}")
            told: dict[str, Any] = json.loads(output.decode().rstrip().rpartition("\n")[2])
            return {
                "requests": told["requests"],
                "seconds": told["us"] / 1e6,
                "errors": told["status"] + told["socket"],
                "p50": told["p50"],
                "p99": told["p99"],
            }

        return observed(server, run)


def lua_script(bodies: Sequence[bytes], headers: Mapping[str, str]) -> str:
    """What wrk is told: the same request for ever, or several by turns, and one line of JSON at the end."""
    quoted = [json.dumps(body.decode("ascii")) for body in bodies]  # a JSON string of ASCII is a Lua string as well
    return _LUA.format(
        headers="\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()),
        first=quoted[0],
        many=_LUA_MANY.format(bodies=",\n".join(quoted)) if len(quoted) > 1 else "",
    )


def observed(server: Process, run: Callable[[], dict[str, Any]]) -> Sample:
    """What `run` found, with the server's CPU time for each request and its memory, which stays high for a while."""
    before = family_cpu_seconds(server.pid)  # a server may have workers
    found = run()
    used = family_cpu_seconds(server.pid) - before
    requests = found["requests"]
    return Sample(
        **{name: value for name, value in found.items() if name != "fault"},
        server_cpu=used / requests * 1e6 if requests else None,
        memory=family_mib(server.pid),
    )


class Loader:
    """The process of `tests.bench.loader`."""

    def __init__(self) -> None:
        self._process = self._begun()
        self.fault = ""
        """The first error of the last order that had one."""

    def __enter__(self) -> Self:
        self._process.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__()

    def http(
        self,
        server: Process,
        bodies: Sequence[bytes],
        headers: Mapping[str, str],
        *,
        connections: int,
        seconds: float,
        keep_alive: bool = True,
        most: int = MOST,
    ) -> Sample:
        """Requests to POST /sql, over kept connections or each over a new one."""
        requests = [encode_request(body, headers) for body in bodies]
        return self.send(server, requests, connections=connections, seconds=seconds, keep_alive=keep_alive, most=most)

    def send(
        self,
        server: Process,
        requests: Sequence[bytes],
        *,
        connections: int,
        seconds: float,
        keep_alive: bool = True,
        most: int = MOST,
    ) -> Sample:
        """The same with requests that are whole already, one after the other."""
        order = {
            "do": "http",
            "port": server.port,
            "requests": [request.decode("latin-1") for request in requests],
            "connections": connections,
            "seconds": seconds,
            "keep_alive": keep_alive,
            "most": most,
        }
        return observed(server, lambda: self._obey(order))

    def open(self, server: Process, request: bytes, *, connections: int, seconds: float) -> None:
        """So many connections for `ask`, within these seconds, each with its first request behind it."""
        order = {"do": "open", "port": server.port, "requests": [request.decode("latin-1")]}
        self._obey(order | {"connections": connections, "seconds": seconds})

    def ask(self, server: Process, *, seconds: float) -> Sample:
        """Requests over the connections that are open."""
        return observed(server, lambda: self._obey({"do": "ask", "seconds": seconds, "most": MOST}))

    def direct(self, how: str, *, url: str, connections: int, seconds: float, most: int = MOST, **what: Any) -> Sample:
        """asyncpg from the loader's own process; `what` is the statement, its arguments, and the size of a batch."""
        found = self._obey(
            {"do": "direct", "how": how, "url": url, "connections": connections, "seconds": seconds, "most": most}
            | what
        )
        return Sample(**{name: value for name, value in found.items() if name != "fault"})

    @staticmethod
    def _begun() -> Process:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return Process("loader", python("tests.bench.loader"), environment=environment(), options=pipes)

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._process.ask(json.dumps(order), timeout=order["seconds"] + _PATIENCE)
        except BaseException:
            # Its answer would still come, and be taken for that to the next order.
            self._process.__exit__()
            self._process = self._begun()
            raise
        found: dict[str, Any] = json.loads(answer)
        self.fault = found["fault"] or self.fault
        return found


def encode_request(body: bytes, headers: Mapping[str, str]) -> bytes:
    """POST /sql as HTTP/1.1 has it."""
    lines = [f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items()]
    head = f"POST /sql HTTP/1.1\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body
