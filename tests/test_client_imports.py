"""No more of Python is imported than a query needs."""

import subprocess
import sys
from pathlib import Path

import sqlhttp


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
    assert not imported & {"sqlhttp._scan", "sqlhttp._reads", "sqlhttp._async", "sqlhttp.errors"}
    heavy = {
        "random",
        "asyncio",
        "ssl",
        "http",
        "email",
        "urllib",
        "dataclasses",
        "inspect",
        "logging",
        "decimal",
        "datetime",
    }
    assert not tops & heavy


def test_a_request_to_a_host_of_plain_letters_needs_no_international_names() -> None:
    program = (
        "import sqlhttp\n"
        "try: sqlhttp.neon('postgres://u:p@db', endpoint='http://localhost:1/sql')('SELECT 1')\n"
        "except sqlhttp.ConnectFailed: pass"
    )
    assert not modules_after(program) & {"encodings.idna", "stringprep", "unicodedata"}


def test_types_are_imported_when_their_first_value_arrives() -> None:
    imported = modules_after("from sqlhttp._types import decoder; decoder(23)('1'); decoder(16)('t')")
    assert not imported & {"decimal", "datetime", "uuid", "ipaddress"}
    assert "decimal" in modules_after("from sqlhttp._types import decoder; decoder(1700)('1')")
