"""The compiled build, which has the gateway's hot modules as C extensions: hatchling's hook, by mypyc.

Off unless `HATCH_BUILD_HOOK_ENABLE_CUSTOM=1` asks for it, as the container image does; it needs a C compiler then.
`python gateway/compile.py` says whether there is one. Which modules are compiled stands in pyproject.toml, with why.
Each of them is in the wheel as source, too.

hatch-mypyc would be a table in pyproject.toml in place of this file, but it knows one source root, where here are two,
and it builds inside the source tree, where extensions then stand before the source that is being worked on.
"""

import os
import shlex
import shutil
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "gateway/sqlhttp_gateway"
GROUP = "sqlhttp_gateway"
"""The extension that has all of the code is called so, with `__mypyc` behind it; that of a module only leads there."""


class Mend(NamedTuple):
    """One fault of mypyc 2.4's own C: in `file`, the text `fault` stands once and `instead` belongs there."""

    file: str
    fault: str
    instead: str


MENDS = (
    # Bytes from behind their end, such as b"abc"[2:1], are a SystemError in place of none. A server or a program that
    # lies about a length could bring that about.
    Mend(
        "bytes_ops.c",
        "Py_ssize_t slice_len = endn - startn;",
        "Py_ssize_t slice_len = endn > startn ? endn - startn : 0;",
    ),
    # An error that passes an await is thrown with its class and traceback beside it, which Python 3.12 and newer warn
    # of each time. The error alone has both.
    Mend(
        "misc_ops.c",
        "PyObject_CallFunctionObjArgs(_m, type, value, traceback, NULL)",
        "PyObject_CallOneArg(_m, value)",
    ),
)


class CompileHook(BuildHookInterface[Any]):
    """Puts extensions into the wheel; its name then tells for which Python and system they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile what `modules` in the hook's table names: paths below `SOURCE`, without their ending.

        Raises:
            SystemExit: there is no C compiler, or mypy has found an error and told it.
        """
        if version == "editable":  # the source tree itself, which somebody works on
            return
        need_compiler()
        from mypyc.build import mypycify
        from setuptools import Distribution

        self._folder = TemporaryDirectory(prefix="sqlhttp-compiled-")
        folder = Path(self._folder.name)
        extensions = mypycify(
            # What nothing compiled imports may be missing, such as redis.
            ["--ignore-missing-imports", *(f"{SOURCE}/{name}.py" for name in self.config["modules"])],
            opt_level="2",
            debug_level="0",
            group_name=GROUP,
            target_dir=str(folder / "c"),
        )
        mend(folder / "c")
        for each in extensions:
            each.include_dirs.insert(0, str(folder / "c"))
        build = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(folder / "lib"), str(folder / "objects")
        build.ensure_finalized()
        build.run()
        for made in sorted((folder / "lib").rglob("*.so")):
            build_data["force_include"][str(made)] = made.relative_to(folder / "lib").as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written; what it was made from goes."""
        if version != "editable":
            self._folder.cleanup()


def mend(target: Path) -> None:
    """Put mypyc's own C into this folder without its faults, for the compiler to find it there first.

    Raises:
        SystemExit: a fault is not found: whoever raises the version of mypy has to see whether it is gone.
    """
    from mypyc.build import include_dir

    for file, fault, instead in MENDS:
        text = Path(include_dir(), file).read_text()
        if text.count(fault) != 1:
            raise SystemExit(
                f"This mypyc's {file} is not as that of the version that pyproject.toml names for the hook."
            )
        (target / file).write_text(text.replace(fault, instead))


def need_compiler() -> None:
    """See that C can be compiled for this Python before a minute is spent on it.

    Raises:
        SystemExit: it cannot; the message says what is missing.
    """
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise SystemExit(
            f"The compiled build needs a C compiler, and there is no {compiler}. On Debian and Ubuntu: apt-get install "
            "gcc libc6-dev; another one is named by CC. Without a compiler, build sqlhttp as it comes."
        )
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise SystemExit(
            f"The compiled build needs Python's headers, and there is no {header}. On Debian and Ubuntu: apt-get "
            "install python3-dev. Without them, build sqlhttp as it comes."
        )


if __name__ == "__main__":
    need_compiler()
