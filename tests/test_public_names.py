"""What `import sqlhttp` offers is what it says it offers, and each of it says what it is."""

import ast
import inspect
from pathlib import Path

import pytest

import sqlhttp


def imported() -> set[str]:
    """Every name that the package's first file imports from its own, also those that come when first asked for."""
    tree = ast.parse(Path(sqlhttp.__file__).read_text())
    later = [node for node in tree.body if isinstance(node, ast.If)]
    statements = [*tree.body, *(statement for node in later for statement in node.body)]
    return {
        name.asname or name.name
        for statement in statements
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("sqlhttp")
        for name in statement.names
    }


def test_all_lists_every_public_name_and_no_other() -> None:
    assert set(sqlhttp.__all__) == {name for name in imported() if not name.startswith("_")}


@pytest.mark.parametrize("name", sqlhttp.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(sqlhttp, name)
    assert name in dir(sqlhttp)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        assert (value.__doc__ or "").strip()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(sqlhttp, "neno")
