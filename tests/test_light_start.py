"""What `sqlhttp serve` loads: not what only some gateways need, nor what is there for other commands.

Each of these takes memory in every worker, and its time of every start.
"""

import json
import subprocess
import sys

import pytest

LIST = """
import json, sys
from sqlhttp_gateway import cli
from sqlhttp_gateway.uvicorn_alone import load_uvicorn
assert cli.main(["serve", "--set", "no.such=setting"]) == 2
load_uvicorn()
import sqlhttp_gateway.workers
from sqlhttp_gateway.app import create_app
from sqlhttp_gateway.settings import Settings
create_app(Settings(database_url="postgres://role@localhost/database"))
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    done = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=True, timeout=60)
    return frozenset(json.loads(done.stdout))


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("prometheus_client", id="until /metrics is asked for"),
        pytest.param("urllib.request", id="but for issuers and webhooks"),
        pytest.param("jwt", id="but for issuers"),
        pytest.param("cryptography", id="but for issuers"),
        pytest.param("redis", id="but for a shared cache"),
        pytest.param("opentelemetry", id="but for traces"),
        pytest.param("click", id="uvicorn's command line"),
        pytest.param("multiprocessing", id="uvicorn's supervisors"),
        pytest.param("importlib.metadata", id="plug-ins of pydantic"),
        pytest.param("importlib.resources", id="files within packages"),
        pytest.param("zipfile", id="packages' metadata"),
        pytest.param("email.message", id="of e-mail but its dates"),
        pytest.param("http.client", id="but for issuers and webhooks of the standard library's HTTP"),
        pytest.param("http.cookies", id="cookies"),
        pytest.param("logging.config", id="uvicorn's log_config"),
        pytest.param("shutil", id="archives"),
        pytest.param("tempfile", id="forms and .env files"),
        pytest.param("dotenv", id=".env files"),
        pytest.param("anyio", id="endpoints that are no coroutines"),
        pytest.param("starlette.applications", id="of Starlette its router is used"),
        pytest.param("html", id="pages for exceptions"),
        pytest.param("httpx", id="of the client"),
        pytest.param("sqlhttp_gateway.check", id="another command"),
        pytest.param("sqlhttp_gateway.embedded", id="another command's"),
    ],
)
def test_gateway_starts_without(module: str, loaded: frozenset[str]) -> None:
    assert module not in loaded
