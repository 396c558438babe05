"""What people install: one wheel with both packages, of which the client needs nothing else."""

import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    [wheel] = folder.glob("sqlhttp-*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed; without an index, so that anything more it asked for could not be had."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-index", "--target", str(folder), str(wheel))
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def python(installed: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run in a Python that sees the standard library and that folder, and no other package."""
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); {code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)


def test_the_wheel_has_both_packages_whole_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(root).as_posix()
        for root in (ROOT / "client", ROOT / "gateway")
        for package in ("sqlhttp", "sqlhttp_gateway")
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources
    assert {"sqlhttp/py.typed", "sqlhttp_gateway/py.typed"} <= names


def test_the_wheel_asks_for_other_packages_in_extras_only(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert [needed for needed in metadata.get_all("Requires-Dist", []) if "extra ==" not in needed] == []
    assert {"gateway", "embedded"} <= set(metadata.get_all("Provides-Extra", []))
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_client_works_where_no_other_package_is(installed: Path) -> None:
    done = python(installed, "from sqlhttp import neon; print(neon('postgres://a:b@localhost/c'))")
    assert done.returncode == 0, done.stderr
    assert "b@" not in done.stdout


def test_the_command_says_which_extra_is_missing(installed: Path) -> None:
    done = python(installed, "from sqlhttp._cli import main; sys.exit(main(['dev']))")
    assert done.returncode == 2
    assert "sqlhttp[gateway]" in done.stderr
    assert "Traceback" not in done.stderr
