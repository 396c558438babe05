import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sqlhttp_gateway.settings import Settings, load_settings, unknown_environment
from tests.support.gateway import Gateway

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
IGNORED = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split()
LINES = [line for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines() if line.strip()]
INSTRUCTIONS = [tuple(line.split(maxsplit=1)) for line in LINES]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    let_in = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    for copied in arguments("COPY"):
        if copied.startswith("--from"):
            continue
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in let_in), source


def test_everything_the_package_is_built_from_is_copied() -> None:
    copied = " ".join(arguments("COPY")).split()
    for needed in ("pyproject.toml", "README.md", "LICENSE", "client", "gateway"):
        assert needed in copied


def pinned(name: str) -> set[str]:
    return set(re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text()))


def test_packages_are_pinned_by_hash() -> None:
    packages, itself = [line for line in arguments("RUN") if "pip install" in line]
    assert "--require-hashes" in packages
    assert "--no-deps" in itself


def test_what_only_the_build_needs_is_taken_out_again() -> None:
    [removed] = re.findall(r"uninstall --yes ([^&]+)", TEXT.replace("\\\n", " "))
    assert set(removed.split()) == (pinned("build") | pinned("compile")) - pinned("gateway") | {"pip"}


@pytest.mark.parametrize(
    ("asked", "compiler", "packages", "hook"),
    [
        ([], "gcc libc6-dev", "build gateway compile", "1"),
        (["COMPILED=1"], "gcc libc6-dev", "build gateway compile", "1"),
        (["COMPILED=0"], "", "build gateway", "0"),
    ],
)
def test_it_is_compiled_unless_that_is_declined(
    tmp_path: Path, asked: list[str], compiler: str, packages: str, hook: str
) -> None:
    """The lines are run, with programs in place of apt-get, python and pip that only say what they were told."""
    heard = "\n".join(build(tmp_path, *asked).stdout.splitlines())
    installed = re.search(r"apt-get install --yes --no-install-recommends (.+)", heard)
    assert (installed[1] if installed else "") == compiler
    assert re.findall(r"-r requirements/([a-z]+)\.txt", heard) == packages.split()
    assert re.findall(r"hook=(\S*) .*--no-build-isolation \.", heard) == [hook]


def test_it_refuses_to_guess_which_build_is_meant(tmp_path: Path) -> None:
    done = build(tmp_path, "COMPILED=yes")
    assert (done.returncode, done.stderr) == (1, "COMPILED is 0 or 1, not yes\n")


def build(folder: Path, *asked: str) -> subprocess.CompletedProcess[str]:
    """Run the lines of the first stage as /bin/sh does, up to the first that fails."""
    prefix = folder / "opt" / "sqlhttp" / "bin"
    prefix.mkdir(parents=True)
    for name in ("apt-get", "python", "pip", "sqlhttp"):
        program = prefix / name
        program.write_text(f'#!/bin/sh\necho "hook=$HATCH_BUILD_HOOK_ENABLE_CUSTOM {name} $*"\n')
        program.chmod(0o755)
    lines = TEXT[: TEXT.rindex("FROM ")].replace("\\\n", " ").replace("/opt/", f"{folder}/opt/").splitlines()
    given = [line.removeprefix("ARG ") for line in lines if line.startswith("ARG ")]
    environment = {"PATH": f"{prefix}:{os.environ['PATH']}", **dict(each.split("=", 1) for each in (*given, *asked))}
    commands = "\n".join(f"( {line.removeprefix('RUN ')} ) || exit" for line in lines if line.startswith("RUN "))
    return subprocess.run(["/bin/sh", "-c", commands], env=environment, capture_output=True, text=True, timeout=30)


def test_nothing_of_the_build_but_what_it_made_reaches_the_image() -> None:
    last = TEXT[TEXT.rindex("FROM ") :]
    assert re.findall(r"(?m)^(?:COPY|ADD|RUN).*", last) == ["COPY --from=build /opt/sqlhttp /opt/sqlhttp"]


def test_environment_is_of_settings_that_exist() -> None:
    pairs = dict(pair.split("=", 1) for pair in shlex.split(arguments("ENV")[0]))
    given = {name: value for name, value in pairs.items() if name.startswith("SQLHTTP_")}
    assert unknown_environment(given) == []
    assert load_settings(listen={"host": given["SQLHTTP_LISTEN__HOST"]}).listen.host == "0.0.0.0"
    assert load_settings(log={"format": given["SQLHTTP_LOG__FORMAT"]}).log.format == "json"


def test_a_crash_of_compiled_code_says_where_it_was() -> None:
    given = dict(pair.split("=", 1) for pair in shlex.split(arguments("ENV")[0]))
    code = "import os, signal\ndef crashing(): os.kill(os.getpid(), signal.SIGSEGV)\ncrashing()"
    environment = {**os.environ, "PYTHONFAULTHANDLER": given["PYTHONFAULTHANDLER"]}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == -signal.SIGSEGV
    assert "in crashing" in done.stderr


def test_it_is_not_root_and_stops_like_the_gateway() -> None:
    assert arguments("USER") == ["65532:65532"]
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    assert arguments("EXPOSE") == [str(Settings().listen.port)]
    assert [json.loads(each) for each in (*arguments("ENTRYPOINT"), *arguments("CMD"))] == [["sqlhttp"], ["serve"]]


def health_check() -> list[str]:
    [text] = arguments("HEALTHCHECK")
    command: list[str] = json.loads(text[text.index("CMD ") + 4 :])
    return command


def test_health_check_passes_on_a_gateway_and_fails_without_one(gateway: Gateway) -> None:
    program, *rest = health_check()
    assert program == "sqlhttp"
    for port, expected in ((gateway.port, 0), (9, 1)):
        environment = {**os.environ, "SQLHTTP_LISTEN__HOST": "0.0.0.0", "SQLHTTP_LISTEN__PORT": str(port)}
        command = [sys.executable, "-m", "sqlhttp_gateway", *rest]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=30)
        assert done.returncode == expected, done.stderr
