from importlib.metadata import version

from sqlhttp_gateway import __version__, build


def test_version_tells_how_it_was_built() -> None:
    ending = "" if (build.__file__ or "").endswith(".py") else "+compiled"
    assert build.build_version() == __version__ + ending


def test_version_that_is_told_is_that_of_the_package() -> None:
    assert version("sqlhttp") == __version__
