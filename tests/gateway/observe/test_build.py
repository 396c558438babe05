import importlib.metadata

import pytest

from sqlhttp_gateway.observe import build


@pytest.mark.parametrize(("file", "told"), [("build.py", "1.2.3"), ("build.cpython-313.so", "1.2.3+compiled")])
def test_version_is_that_of_the_installed_package_and_tells_how_it_was_built(
    file: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "__file__", file)
    monkeypatch.setattr(build, "version", {"sqlhttp": "1.2.3"}.__getitem__)
    assert build.build_version() == told


def test_source_tree_that_was_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(build, "version", missing)
    assert build.build_version() == "unknown"
