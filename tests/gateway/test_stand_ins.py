import sys
from pathlib import Path

import pytest

from sqlhttp_gateway.stand_ins import later, standing_in


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `heavy` with a part that nobody has loaded."""
    package = tmp_path / "heavy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("SIZE = 3\n\ndef double(number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "heavy", raising=False)
    monkeypatch.delitem(sys.modules, "heavy.part", raising=False)


@pytest.mark.usefixtures("heavy")
def test_module_is_loaded_when_it_is_asked_for_what_was_not_given() -> None:
    with standing_in({"heavy.part": {}}):
        import heavy.part  # type: ignore[import-not-found]
    assert "heavy.part" not in sys.modules
    assert heavy.part.SIZE == 3
    assert heavy.part is sys.modules["heavy.part"]


@pytest.mark.usefixtures("heavy")
def test_function_that_was_given_is_loaded_when_it_is_called() -> None:
    with standing_in({"heavy.part": {"double": lambda: later("heavy.part", "double")}}):
        from heavy.part import double
    assert "heavy.part" not in sys.modules
    assert double(21) == 42
    assert "heavy.part" in sys.modules


@pytest.mark.usefixtures("heavy")
def test_whoever_imports_the_module_afterwards_gets_the_module() -> None:
    with standing_in({"heavy": {}, "heavy.part": {"SIZE": lambda: 0}}):
        pass
    from heavy.part import SIZE

    assert SIZE == 3


@pytest.mark.usefixtures("heavy")
def test_module_that_is_loaded_already_stays() -> None:
    import heavy.part

    with standing_in({"heavy.part": {"SIZE": lambda: 0}}):
        from heavy.part import SIZE
    assert SIZE == 3
    assert sys.modules["heavy.part"] is heavy.part


@pytest.mark.usefixtures("heavy")
def test_name_that_nobody_has_is_an_attribute_error() -> None:
    with standing_in({"heavy.part": {}}):
        import heavy.part

        part = heavy.part
    with pytest.raises(AttributeError, match="no_such"):
        _ = part.no_such
