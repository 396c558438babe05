"""The gateway as a plain ASGI application under servers that are not its own, each where it is installed.

Its own is uvicorn with a way of its own for `/sql` and for tunnels; under these it has to do with what ASGI says.
"""

import importlib.util
import sys

from sqlhttp_gateway.app import Gateway, create_app
from sqlhttp_gateway.settings import load_settings

OTHERS = {
    "plain uvicorn": ("uvicorn", "--factory --host 127.0.0.1 --port {port} --loop uvloop --no-access-log"),
    "granian": ("granian", "--factory --host 127.0.0.1 --port {port} --loop uvloop --interface asgi --workers 1"),
    "hypercorn": ("hypercorn", "--bind 127.0.0.1:{port} --worker-class uvloop"),
}
"""The module of each, and its arguments."""
APPLICATION = "tests.support.other_servers:application"


def is_installed(name: str) -> bool:
    """Whether a server can be started here."""
    return importlib.util.find_spec(OTHERS[name][0]) is not None


def command(name: str, port: int, application: str = APPLICATION) -> list[str]:
    """What starts a server with one process on this port; `application` is MODULE:FUNCTION."""
    module, arguments = OTHERS[name]
    called = f"{application}()" if module == "hypercorn" else application  # the others are told by --factory
    return [sys.executable, "-m", module, *arguments.format(port=port).split(), called]


def application() -> Gateway:
    """The gateway by the settings of the environment."""
    return create_app(load_settings())
