from importlib.metadata import version

import pytest

from sqlhttp_gateway import __version__
from sqlhttp_gateway.observe import build


@pytest.mark.parametrize(("file", "ending"), [("build.py", ""), ("build.cpython-313.so", "+compiled")])
def test_version_tells_how_it_was_built(file: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "__file__", file)
    assert build.build_version() == __version__ + ending


def test_version_that_is_told_is_that_of_the_package() -> None:
    assert version("sqlhttp") == __version__
