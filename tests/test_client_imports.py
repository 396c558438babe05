"""What `import sqlhttp` offers is what `__all__` says, and no more of Python is imported than a query needs."""

import subprocess
import sys
from pathlib import Path

import pytest

import sqlhttp


def test_every_public_name_exists_and_is_listed() -> None:
    for name in sqlhttp.__all__:
        assert getattr(sqlhttp, name) is not None
    assert sqlhttp.__all__ == sorted(sqlhttp.__all__)
    offered = {name for name in dir(sqlhttp) if not name.startswith("_")}
    submodules = {"dbapi", "pytest_plugin"}  # there once something has imported them
    assert offered - submodules - {"TYPE_CHECKING", "Any"} == set(sqlhttp.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = sqlhttp.nothing


def modules_after(program: str) -> set[str]:
    """What a fresh interpreter has imported after running it."""
    code = f"import sys; before = set(sys.modules)\n{program}\nprint(*(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=PATH)
    return set(out.stdout.split())


PATH = {"PYTHONPATH": str(Path(sqlhttp.__file__).parent.parent)}


def test_importing_takes_the_standard_library_alone_and_little_of_it() -> None:
    imported = modules_after("import sqlhttp; sqlhttp.neon('postgres://u:p@localhost/db')")
    tops = {name.partition(".")[0] for name in imported}
    assert tops - {"sqlhttp"} <= set(sys.stdlib_module_names)
    heavy = {"asyncio", "ssl", "http", "email", "urllib", "dataclasses", "inspect", "logging", "decimal", "datetime"}
    assert not tops & heavy


def test_types_are_imported_when_their_first_value_arrives() -> None:
    imported = modules_after("from sqlhttp._types import decoder; decoder(23)('1'); decoder(16)('t')")
    assert not imported & {"decimal", "datetime", "uuid", "ipaddress"}
    assert "decimal" in modules_after("from sqlhttp._types import decoder; decoder(1700)('1')")
