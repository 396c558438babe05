"""The review in .github/SECURITY.md: each line names tests, and each of them is there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
_, _, REVIEW = (ROOT / ".github" / "SECURITY.md").read_text().partition("## What stands behind the promises")
LINES = [line for line in REVIEW.splitlines() if line.startswith("| ")][2:]


def test_the_review_has_lines_of_three_columns_without_a_gap() -> None:
    assert len(LINES) > 25
    for line in LINES:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert len(cells) == 3, line
        assert all(cells), line


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split(" | ")[0].strip("| ")[:60])
def test_every_line_names_tests_that_exist(line: str) -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", line.split(" | ")[-1])
    assert named
    for file, function in named:
        path = TESTS / file
        assert path.is_file(), file
        functions = [node.name for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "name")]
        assert not function or function in functions, f"{file}::{function}"


def test_everything_that_is_installed_is_pinned_by_hash() -> None:
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        pins = re.findall(r"^([\w.\[\],-]+)==\S+(.*(?:\n    .*)*)", file.read_text(), re.MULTILINE)
        assert pins, file.name
        assert [name for name, rest in pins if "--hash=sha256:" not in rest] == [], file.name
