"""Node with the drivers from npm that tests/contract pins: where it is, or what is missing."""

import shutil
import subprocess
from pathlib import Path

CONTRACT = Path(__file__).parents[1] / "contract"
LEAST_NODE = (20, 19)  # as tests/contract/package.json says; what the drivers themselves ask for
NOT_TRIED = "drivers from npm are not tried"


class NodeMissing(Exception):
    """There is no such Node; the text says what would help."""


def node_with_drivers() -> str:
    """The path of a Node that has the drivers.

    Raises:
        NodeMissing: there is none, it is too old, or the drivers are not installed.
    """
    node = shutil.which("node")
    if node is None:
        raise NodeMissing(f"{NOT_TRIED}: there is no node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
    numbers = tuple(int(number) for number in version.lstrip("v").split(".")[:2])
    if numbers < LEAST_NODE:
        raise NodeMissing(f"{NOT_TRIED}: node is {version}, and they need {'.'.join(map(str, LEAST_NODE))}")
    if not (CONTRACT / "node_modules" / ".package-lock.json").is_file():
        raise NodeMissing(f"{NOT_TRIED}: run npm ci --ignore-scripts in tests/contract")
    return node
