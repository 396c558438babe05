"""Node and the drivers, for the tests that need them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
LEAST_NODE = (20, 19)  # as package.json says; what the drivers themselves ask for


@pytest.fixture(scope="session")
def node() -> str:
    """The path of a Node that has the drivers. Without it the test is skipped, or fails where CI is "true"."""
    found = shutil.which("node")
    missing = _what_is_missing(found)
    if missing is None:
        assert found is not None
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _what_is_missing(node: str | None) -> str | None:
    if node is None:
        return "drivers from npm are not tried: there is no node"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
    numbers = tuple(int(number) for number in version.lstrip("v").split(".")[:2])
    if numbers < LEAST_NODE:
        return f"drivers from npm are not tried: node is {version}, and they need {'.'.join(map(str, LEAST_NODE))}"
    if not (FOLDER / "node_modules" / ".package-lock.json").is_file():
        return f"drivers from npm are not tried: run npm ci --ignore-scripts in {FOLDER}"
    return None
