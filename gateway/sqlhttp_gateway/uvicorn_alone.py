"""uvicorn and Starlette as libraries, without what they load along and nothing here calls.

Of uvicorn's package that is the command line, with click, supervisors and multiprocessing; of the standard library what
reads mail, cookies, forms and packages' metadata. It takes 3 MiB and a tenth of the time in which the gateway starts.
Whoever asks for some of it all the same gets it. How uvicorn is set up is said in `serve`.
"""

import importlib
import sys

from sqlhttp_gateway.stand_ins import Given, later, standing_in

_COMMAND_LINE = "uvicorn.main"
_UNCALLED: dict[str, Given] = {
    # The package takes three names from there, to give them on.
    _COMMAND_LINE: {
        "Server": lambda: importlib.import_module("uvicorn.server").Server,
        "main": lambda: later(_COMMAND_LINE, "main"),
        "run": lambda: later(_COMMAND_LINE, "run"),
    },
    "logging.config": {},  # of a log_config, which is None here
    # Of an HTTPException without a text of its own, of cookies, of files and of forms.
    "http.client": {},
    "http.cookies": {},
    "mimetypes": {"guess_type": lambda: later("mimetypes", "guess_type")},
    "tempfile": {"SpooledTemporaryFile": lambda: later("tempfile", "SpooledTemporaryFile")},
    # Of endpoints that are no coroutines, and of streams.
    "anyio": {},
    "anyio.abc": {},
    "anyio.to_thread": {},
    # Of websockets' version, where it is not written in it.
    "importlib.metadata": {},
}
_LOADED = ("uvicorn", "uvicorn.server", "starlette.routing", "starlette.websockets", "websockets.version")


def load_uvicorn() -> None:
    """Import the package, if nobody has, and what of it and Starlette serves requests."""
    if "uvicorn" in sys.modules:
        return
    with standing_in(_UNCALLED):
        for name in _LOADED:
            importlib.import_module(name)
