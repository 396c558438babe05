"""uvicorn as a library, without the command line that its package loads along: click, supervisors, multiprocessing.

They take 1.6 MiB and a tenth of the time in which the gateway starts, and nothing here calls them. Whoever asks for one
of them all the same gets it. How uvicorn is set up is said in `serve`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_COMMAND_LINE = "uvicorn.main"


def load_uvicorn() -> None:
    """Import the package, if nobody has, while a module that loads nothing stands in for its command line."""
    if "uvicorn" in sys.modules:
        return
    sys.modules[_COMMAND_LINE] = _StandIn(_COMMAND_LINE)
    try:
        importlib.import_module("uvicorn")
    finally:
        _step_aside()


class _StandIn(ModuleType):
    """Has the three names that the package takes from there to give them on; for any other it loads the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        if name == "Server":
            return importlib.import_module("uvicorn.server").Server
        if name in ("main", "run"):
            return _Late(name)
        return getattr(_real(), name)


class _Late:
    """A function of the command line, loaded when it is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(_real(), self._name)(*args, **kwargs)


def _real() -> ModuleType:
    _step_aside()
    return importlib.import_module(_COMMAND_LINE)


def _step_aside() -> None:
    if isinstance(sys.modules.get(_COMMAND_LINE), _StandIn):
        del sys.modules[_COMMAND_LINE]
