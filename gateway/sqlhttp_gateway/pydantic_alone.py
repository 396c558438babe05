"""pydantic without looking for plug-ins: to be imported before pydantic is.

It would read the metadata of every package that is installed, by way of modules that take 1 MiB, and run what calls
itself a plug-in of its. Settings need none. Where pydantic is loaded already, it stays as it is.
"""

import importlib
import sys
from contextlib import suppress

from sqlhttp_gateway.stand_ins import Given, later, standing_in

_UNCALLED: dict[str, Given] = {
    # Whose plug-ins it asks for as the first model is made: of none.
    "importlib.metadata": {"entry_points": lambda: _no_entry_points},
    # Of .env files, and of files within packages, whose class is in an annotation.
    "dotenv": {"dotenv_values": lambda: later("dotenv", "dotenv_values")},
    "importlib.resources": {},
    "importlib.resources.abc": {"Traversable": lambda: object},
}
_LOADED = ("pydantic.plugin._loader", "pydantic_settings")


def _no_entry_points(*, group: str) -> tuple[()]:
    return ()


def _load() -> None:
    if _UNCALLED.keys() & sys.modules:  # so their memory is taken, and pydantic may have asked already
        return
    with standing_in(_UNCALLED):
        for name in _LOADED:
            with suppress(ModuleNotFoundError):  # the first is pydantic's own
                importlib.import_module(name)


_load()
