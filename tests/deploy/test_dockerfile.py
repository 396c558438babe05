import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

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


def test_packages_are_pinned_by_hash() -> None:
    [first, last] = arguments("RUN")
    assert "--require-hashes" in first
    assert "--no-deps" in last


def test_what_only_the_build_needs_is_taken_out_again() -> None:
    pinned = re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "requirements" / "build.txt").read_text())
    needed = re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "requirements" / "gateway.txt").read_text())
    [removed] = re.findall(r"uninstall --yes ([^&]+)", TEXT.replace("\\\n", " "))
    assert set(removed.split()) == set(pinned) - set(needed) | {"pip"}


def test_environment_is_of_settings_that_exist() -> None:
    pairs = dict(pair.split("=", 1) for pair in shlex.split(arguments("ENV")[0]))
    given = {name: value for name, value in pairs.items() if name.startswith("SQLHTTP_")}
    assert unknown_environment(given) == []
    assert load_settings(listen={"host": given["SQLHTTP_LISTEN__HOST"]}).listen.host == "0.0.0.0"
    assert load_settings(log={"format": given["SQLHTTP_LOG__FORMAT"]}).log.format == "json"


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
