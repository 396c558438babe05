"""Which sqlhttp this is: its version, and whether its hot modules are C."""

from typing import Final

from sqlhttp_gateway import __version__

IS_COMPILED: Final = not __file__.endswith(".py")


def build_version() -> str:
    """The package's version, with "+compiled" if it is."""
    return __version__ + ("+compiled" if IS_COMPILED else "")
