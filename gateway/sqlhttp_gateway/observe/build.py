"""Which sqlhttp this is."""

from importlib.metadata import PackageNotFoundError, version


def build_version() -> str:
    """The version that was installed, with "+compiled" if this module is; "unknown" in a source tree that was not."""
    try:
        return version("sqlhttp") + ("" if __file__.endswith(".py") else "+compiled")
    except PackageNotFoundError:
        return "unknown"
