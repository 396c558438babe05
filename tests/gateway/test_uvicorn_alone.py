"""Each in a process of its own, since uvicorn is loaded once for all tests."""

import json
import subprocess
import sys


def _told(code: str) -> object:
    run = f"import json, sys\nfrom sqlhttp_gateway.uvicorn_alone import load_uvicorn\n{code}"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_uvicorn_is_there_and_its_command_line_is_not() -> None:
    told = _told("""
load_uvicorn()
import uvicorn, uvicorn.server
is_whole = uvicorn.Server is uvicorn.server.Server and uvicorn.Config("a:b").port == 8000
print(json.dumps([is_whole, "click" in sys.modules, "uvicorn.supervisors" in sys.modules]))
""")
    assert told == [True, False, False]


def test_whoever_wants_the_command_line_gets_the_real_one() -> None:
    told = _told("""
load_uvicorn()
import uvicorn
try:
    uvicorn.run("no_such_module:app", log_level="critical")
    run = "went on"
except SystemExit:
    run = "looked for the application"
import uvicorn.main
from uvicorn.main import LEVEL_CHOICES
print(json.dumps([run, uvicorn.main.__file__.endswith("main.py"), "click" in sys.modules]))
""")
    assert told == ["looked for the application", True, True]


def test_what_starlette_names_and_nothing_here_calls_is_loaded_for_whoever_calls_it() -> None:
    told = _told("""
load_uvicorn()
import asyncio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
before = [name in sys.modules for name in ("anyio", "http.client", "http.cookies", "mimetypes")]
response = Response()
response.set_cookie("name", "value")
thread = asyncio.run(run_in_threadpool(lambda: "in a thread"))
detail = HTTPException(404).detail
print(json.dumps([before, response.headers["set-cookie"][:10], thread, detail, FileResponse("a.png").media_type]))
""")
    assert told == [[False] * 4, "name=value", "in a thread", "Not Found", "image/png"]


def test_uvicorn_that_is_loaded_already_is_left_as_it_is() -> None:
    assert _told("""
import uvicorn
run = uvicorn.run
load_uvicorn()
print(json.dumps(uvicorn.run is run and "click" in sys.modules))
""")
