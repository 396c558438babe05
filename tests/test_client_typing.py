"""mypy --strict on a user's program: the types it reveals are those that are promised."""

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="mypy is not installed")

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "support" / "typed_program.py"
SHORT = re.compile(r"\b(?:builtins|typing|sqlhttp\.\w+|tests\.support\.typed_program|typed_program)\.")

WRONG = """
from sqlhttp import neon, neon_async
sql = neon()
sql.query("select 1", array_mod=True)
sql.transaction(["select 1"])
neon(auth_token=5)
rows: list[int] = sql("select 1")
sql(5)
"""


def mypy(*arguments: str) -> tuple[str, int]:
    out, errors, status = api.run(["--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "--config-file=", *arguments])
    assert not errors, errors
    return out, status


@pytest.fixture(autouse=True)
def _source_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT / "client"))


def test_a_users_program_has_the_types_that_are_promised() -> None:
    out, status = mypy(str(PROGRAM))
    assert status == 0, out
    revealed = {
        int(number): SHORT.sub("", kind) for number, kind in re.findall(r':(\d+): note: Revealed type is "(.*)"', out)
    }
    promised = {
        number: line.partition("  # ")[2]
        for number, line in enumerate(PROGRAM.read_text().splitlines(), 1)
        if "reveal_type(" in line
    }
    assert len(promised) > 50
    assert revealed == promised


def test_what_a_user_gets_wrong_is_told(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(WRONG)
    out, status = mypy(str(program))
    assert status == 1
    wrong = {int(number) for number in re.findall(r":(\d+): error", out)}
    assert wrong == {4, 5, 6, 7, 8}, out
