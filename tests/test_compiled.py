"""The compiled build: what is compiled can be, and nobody gets it who has not asked for it.

How it behaves is what `make test-compiled` tries, by the tests of everything else.
"""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gateway" / "sqlhttp_gateway"
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
    "custom"
]
MODULES: list[str] = HOOK["modules"]
ENABLE = "HATCH_BUILD_HOOK_ENABLE_CUSTOM"


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def classes(module: str) -> list[ast.ClassDef]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.ClassDef)]


def test_every_module_on_the_list_exists_and_stands_there_once_in_order() -> None:
    assert [name for name in MODULES if not (PACKAGE / f"{name}.py").is_file()] == []
    assert sorted(set(MODULES)) == MODULES


def test_nobody_inherits_from_a_compiled_class_without_being_compiled() -> None:
    """mypyc refuses that when such an object is made, which may be the first time that somebody asks for it."""
    compiled = {(module, each.name) for module in MODULES for each in classes(module)}
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).with_suffix("").as_posix()
        imported = {
            alias.asname or alias.name: (node.module.removeprefix("sqlhttp_gateway.").replace(".", "/"), alias.name)
            for node in ast.walk(tree(module))
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        if module not in MODULES:
            bases = {ast.unparse(base).partition("[")[0] for each in classes(module) for base in each.bases}
            assert [base for base in bases if imported.get(base) in compiled] == [], module


def test_a_compiled_class_inherits_from_nothing_but_others_and_what_leaves_no_trace() -> None:
    """mypyc gives one with another base a place for weak references, and lets the garbage collector crash of them."""
    known = {"Generic", "NamedTuple", "Protocol", "Hashable"} | {
        each.name for name in MODULES for each in classes(name)
    }
    for module in MODULES:
        for each in classes(module):
            assert {ast.unparse(base).partition("[")[0] for base in each.bases} <= known, f"{each.name} in {module}"


def test_nothing_compiled_is_referred_to_weakly() -> None:
    """The same crash: a class with the base Generic has that place, too. One without any base raises a TypeError."""
    compiled = {each.name for module in MODULES for each in classes(module)}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if "from weakref import" in text:
            held = set(re.findall(r"(?:\bref|Dictionary|WeakSet)\[(?:.*, )?(\w+)\]", text))
            assert held, f"what {path.name} holds weakly is not said by its type"
            assert held.isdisjoint(compiled), path.name
        assert "import weakref" not in text, path.name


def test_a_build_is_plain_unless_it_is_asked_for() -> None:
    assert HOOK["enable-by-default"] is False
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HATCH_")}
    code = "from hatchling.build import get_requires_for_build_wheel as needed; print(*needed(None))"
    asked = {}
    for enabled in (False, True):
        environment = {**kept, **({ENABLE: "1"} if enabled else {})}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        asked[enabled] = done.stdout
    assert "mypy" not in asked[False]
    assert "mypy" in asked[True]


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sqlhttp_compile", ROOT / HOOK["path"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_compiler_it_says_which_one_is_missing_and_what_to_install(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nowhere/a-compiler -pipe")
    with pytest.raises(SystemExit, match=r"there is no /nowhere/a-compiler.*apt-get install gcc"):
        hook.need_compiler()


def test_whoever_only_wants_to_know_whether_it_can_be_compiled_here_is_told() -> None:
    for compiler, status in (("/nowhere/a-compiler", 1), (sys.executable, 0)):
        command = [sys.executable, str(ROOT / HOOK["path"])]
        environment = {**os.environ, "CC": compiler}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == status or "Python.h" in done.stderr, done.stderr
        assert ("there is no /nowhere/a-compiler" in done.stderr) == (status == 1)


def test_without_the_headers_of_python_it_says_so(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", sys.executable)
    monkeypatch.setattr(hook.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=r"there is no .*Python\.h.*python3-dev"):
        hook.need_compiler()
    (tmp_path / "Python.h").touch()
    hook.need_compiler()


def test_the_faults_in_mypycs_c_are_there_to_be_mended(hook: ModuleType, tmp_path: Path) -> None:
    """That they are mended is seen on the build: by tests/fuzz/test_corpus.py, and by every test of an error that
    passes an await with Python 3.12 or newer, where a warning is an error."""
    hook.mend(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {file for file, _, _ in hook.MENDS}
    for file, fault, instead in hook.MENDS:
        mended = (tmp_path / file).read_text()
        assert instead in mended
        assert fault not in mended


def test_what_these_tests_run_on_is_what_was_meant(request: pytest.FixtureRequest) -> None:
    """`make test-compiled` would be content with plain modules, if its build were not found."""
    is_meant = "not uncompiled" in request.config.getoption("markexpr")
    files = [importlib.import_module(f"sqlhttp_gateway.{name.replace('/', '.')}").__file__ for name in MODULES]
    plain = [file for file in files if str(file).endswith(".py")]
    assert plain == ([] if is_meant else files)
