"""The README's recipes, run as they stand there against `sqlhttp dev`.

They name the default port, 4444. Where that is taken the test uses another, and puts it into the text.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlhttp_gateway.dev import DSN, recipes
from tests.support.gateway import EndedEarly, GatewayProcess, free_port
from tests.support.node import CONTRACT

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
URL = "http://127.0.0.1:4444"


def block(language: str) -> str:
    """The first code block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language}"
    return found[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `sqlhttp dev` answers."""
    folder = tmp_path_factory.mktemp("readme")
    for arguments in ((), ("--port", str(free_port()))):
        url = f"http://127.0.0.1:{arguments[1]}" if arguments else URL
        with GatewayProcess("dev", *arguments, environment={}, folder=folder) as process:
            try:
                process.wait_until_ready(url)
            except EndedEarly as ended:
                if "is in use" not in str(ended):
                    raise
                continue
            yield url
            assert process.stop() == 0
            return


def run(command: list[str], url: str, folder: Path) -> str:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    if url != URL:
        environment["SQLHTTP_ENDPOINT"] = url
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_lines_print_rows(url: str, tmp_path: Path) -> None:
    answer = json.loads(run(["sh", "-c", block("sh").replace(URL, url)], url, tmp_path))
    assert answer["rows"] == [{"answer": 42}]


def test_the_javascript_lines_print_rows(url: str, node: str) -> None:
    script = block("js").replace(URL, url)
    assert run([node, "--input-type=module", "--eval", script], url, CONTRACT) == "[ { answer: 42 } ]\n"


def test_the_python_lines_print_rows(url: str, tmp_path: Path) -> None:
    assert run([sys.executable, "-c", block("python")], url, tmp_path) == "[{'answer': 42}]\n"


def test_the_recipes_are_those_that_dev_prints() -> None:
    assert {language: block(language).rstrip("\n") for language in ("sh", "js", "python")} == dict(
        zip(("sh", "js", "python"), recipes(URL, DSN).values(), strict=True)
    )


DOCUMENTS = (
    "README.md",
    "gateway/README.md",
    "deploy/README.md",
    "client/README.md",
    "tests/bench/README.md",
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text()):
        found = path.parent / target if target else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), f"{target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
