"""Which sqlhttp this is."""

from importlib.metadata import PackageNotFoundError, version


def build_version() -> str:
    """The version that was installed; "unknown" in a source tree that was not."""
    try:
        return version("sqlhttp")
    except PackageNotFoundError:
        return "unknown"
