"""Every source file has its test file at the same place, and the reverse."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"client": ROOT / "client" / "sqlhttp", "gateway": ROOT / "gateway" / "sqlhttp_gateway"}

UNTESTED = {
    "gateway/__main__.py": "two lines that hand over to cli.main; test_dev.py and test_serve.py start it",
}
"""Source files without a test file of their own, and why."""


def expected() -> dict[str, str]:
    """Test file for each source file: `client/sqlhttp/_types.py` is tested by `client/test_types.py`."""
    pairs = {}
    for side, package in PACKAGES.items():
        for source in package.rglob("*.py"):
            place = source.relative_to(package)
            if place.name != "__init__.py":  # names and a docstring only; test_public_names.py has the client's
                test = place.with_name(f"test_{place.name.lstrip('_')}")
                pairs[f"{side}/{place.as_posix()}"] = f"{side}/{test.as_posix()}"
    return pairs


def present() -> set[str]:
    tests = ROOT / "tests"
    return {path.relative_to(tests).as_posix() for side in PACKAGES for path in (tests / side).rglob("test_*.py")}


def test_every_source_file_has_its_test_file() -> None:
    missing = {source: test for source, test in expected().items() if test not in present() and source not in UNTESTED}
    assert missing == {}


def test_every_test_file_has_its_source_file() -> None:
    assert present() - set(expected().values()) == set()


def test_the_exceptions_are_real() -> None:
    assert {source for source in UNTESTED if source not in expected() or expected()[source] in present()} == set()
