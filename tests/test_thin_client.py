"""The client is thin: importing it brings nothing but the standard library."""

import json
import subprocess
import sys

LIST = """
import json, sys
before = set(sys.modules)
import sqlhttp
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def test_importing_the_client_imports_no_other_package() -> None:
    done = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=True, timeout=60)
    assert set(json.loads(done.stdout)) - sys.stdlib_module_names == {"sqlhttp"}
