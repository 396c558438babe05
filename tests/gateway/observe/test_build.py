import importlib.metadata

import pytest

from sqlhttp_gateway.observe import build


def test_version_is_that_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "version", {"sqlhttp": "1.2.3"}.__getitem__)
    assert build.build_version() == "1.2.3"


def test_source_tree_that_was_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(build, "version", missing)
    assert build.build_version() == "unknown"
