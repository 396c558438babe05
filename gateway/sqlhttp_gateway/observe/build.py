"""Which sqlhttp this is."""

from sqlhttp_gateway import __version__


def build_version() -> str:
    """The package's version, with "+compiled" if this module is."""
    return __version__ + ("" if __file__.endswith(".py") else "+compiled")
