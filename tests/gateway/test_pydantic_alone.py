"""Each in a process of its own, since pydantic is loaded once for all tests."""

import json
import subprocess
import sys


def _told(code: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}"], capture_output=True, text=True, timeout=60
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_no_plug_in_is_looked_for() -> None:
    told = _told("""
from sqlhttp_gateway.settings import Settings
settings = Settings(database_url="postgres://role@localhost/database")
print(json.dumps([settings.pool.max_size > 0, "importlib.metadata" in sys.modules, "dotenv" in sys.modules]))
""")
    assert told == [True, False, False]


def test_what_pydantic_was_not_given_is_there_for_everybody_else() -> None:
    told = _told("""
import sqlhttp_gateway.settings
from importlib.metadata import version
import importlib.resources
print(json.dumps([bool(version("pydantic")), importlib.resources.files("pydantic").is_dir()]))
""")
    assert told == [True, True]


def test_pydantic_that_is_loaded_already_is_left_as_it_is() -> None:
    told = _told("""
import importlib.metadata
from pydantic.plugin import _loader
from sqlhttp_gateway.settings import Settings
print(json.dumps([_loader.entry_points is importlib.metadata.entry_points]))
""")
    assert told == [True]
