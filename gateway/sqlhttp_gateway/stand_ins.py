"""Modules that stand in for others while a library is imported that names them, and calls nothing of them here.

What such a module would load along takes memory in every worker and its time of every start: pydantic looks for
plug-ins among all packages' metadata, which are read by a parser for e-mail and one for zip files. Whoever asks a
stand-in for more than it was given gets that from the module itself, which is loaded then.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Given = Mapping[str, Callable[[], object]]
"""What is had by the name of it, from what gives it; it is called as often as the name is asked for."""


class StandIn(ModuleType):
    """Has what it was given; anything else it has from the module that it stands for."""

    def __init__(self, name: str, given: Given) -> None:
        super().__init__(name)
        self._given = given

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        give = self._given.get(name)
        return give() if give is not None else getattr(_real(self), name)


@contextmanager
def standing_in(modules: Mapping[str, Given]) -> Iterator[None]:
    """Put stand-ins where modules of these names are not loaded yet, for the length of the block. An `import a.b` that
    was met meanwhile goes on with its stand-in, until somebody loads the module."""
    stand_ins = [StandIn(name, given) for name, given in modules.items() if name not in sys.modules]
    sys.modules.update({each.__name__: each for each in stand_ins})
    try:
        for each in stand_ins:
            package, _, last = each.__name__.rpartition(".")
            if package and last not in vars(importlib.import_module(package)):
                setattr(sys.modules[package], last, each)  # as the import of a part does
        yield
    finally:
        for each in stand_ins:
            _step_aside(each)


def later(module: str, function: str) -> Callable[..., Any]:
    """A module's function, loaded when it is called."""

    def called(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*args, **kwargs)

    return called


def _real(stand_in: StandIn) -> ModuleType:
    _step_aside(stand_in)
    return importlib.import_module(stand_in.__name__)  # which also takes its place in its package


def _step_aside(stand_in: StandIn) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
