from pathlib import Path

import yaml

from sqlhttp_gateway.check.capacity import Deployment, capacity
from sqlhttp_gateway.check.finding import Level
from sqlhttp_gateway.neon.dsn import dsn_from_url
from sqlhttp_gateway.settings import Settings, load_settings, unknown_environment

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
GATEWAY = SERVICES["gateway"]
ENVIRONMENT: dict[str, str] = GATEWAY["environment"]
BY_SOCKET = yaml.safe_load((ROOT / "deploy" / "compose.socket.yaml").read_text())


def settings() -> Settings:
    given: dict[str, dict[str, str]] = {}
    for variable, value in ENVIRONMENT.items():
        section, _, name = variable.lower().removeprefix("sqlhttp_").partition("__")
        if name:
            given.setdefault(section, {})[name] = value
    return load_settings(**given)


def test_gateway_has_six_settings_and_all_exist() -> None:
    assert len(ENVIRONMENT) == 6
    assert unknown_environment(ENVIRONMENT) == []
    assert settings().listen.workers == 2


def test_gateway_goes_to_the_postgres_beside_it_and_waits_for_it() -> None:
    dsn = dsn_from_url(ENVIRONMENT["DATABASE_URL"].replace("${POSTGRES_PASSWORD}", "word"))
    assert dsn.host in SERVICES
    assert GATEWAY["depends_on"][dsn.host]["condition"] == "service_healthy"
    assert SERVICES[dsn.host]["healthcheck"]["test"][0] == "CMD"


def test_pools_fit_into_postgres_s_own_default() -> None:
    assert capacity(settings(), max_connections=100, reserved=3, deployment=Deployment()).level is Level.OK


def test_gateway_is_built_from_the_dockerfile_and_may_write_nothing() -> None:
    build = GATEWAY["build"]
    context = (ROOT / "deploy" / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()
    assert GATEWAY["read_only"] is True
    assert GATEWAY["cap_drop"] == ["ALL"]


def test_port_is_open_to_this_machine_only() -> None:
    assert GATEWAY["ports"] == [f"127.0.0.1:{settings().listen.port}:{settings().listen.port}"]


def test_no_password_is_in_the_file() -> None:
    assert "POSTGRES_PASSWORD:?" in SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_gateway_has_time_to_end_in_order() -> None:
    drain = settings().drain
    assert float(GATEWAY["stop_grace_period"].removesuffix("s")) > drain.notice + drain.grace


# ── compose.socket.yaml, over it ─────────────────────────────────────────────────────────────────────────────────────


def test_socket_s_folder_is_one_volume_of_both_and_the_gateway_goes_there() -> None:
    services = BY_SOCKET["services"]
    assert services.keys() == SERVICES.keys()
    dsn = dsn_from_url(services["gateway"]["environment"]["DATABASE_URL"].replace("${POSTGRES_PASSWORD}", "word"))
    [volume] = BY_SOCKET["volumes"]
    assert services["postgres"]["volumes"] == [f"{volume}:{dsn.host}"]
    assert services["gateway"]["volumes"] == [f"{volume}:{dsn.host}:ro"]
    assert dsn.host.startswith("/")
    assert services["gateway"]["environment"].keys() <= ENVIRONMENT.keys()


def test_the_socket_asks_for_passwords_as_the_address_does() -> None:
    assert "--auth-local=scram-sha-256" in BY_SOCKET["services"]["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]
