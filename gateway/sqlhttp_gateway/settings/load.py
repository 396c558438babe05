"""Where settings come from: arguments, environment, TOML file, default, in this order; and how a fault is told.

An unknown name anywhere is an error that names it. No value is ever shown, since it may be a secret.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.settings.section import Section
from sqlhttp_gateway.settings.whole import PREFIX, Settings, toml_file

_SERVICE_LINK = re.compile(r"_SERVICE_(?:HOST|PORT(?:_\w+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$")
BY_NAME = frozenset({"targets", "tenants", "logins", "keys", "issuers"})
"""Settings that are sections of their own under names that the user chooses."""


def load_settings(*, file: Path | None = None, **given: Any) -> Settings:
    """Settings from arguments, environment and file, in this order of precedence.

    Raises:
        ConfigurationError: a key is unknown, a value is out of its range, or the file cannot be read.
    """
    if file is not None and not file.is_file():
        raise ConfigurationError(f"settings file {file} does not exist")
    unknown = unknown_environment(os.environ)
    if unknown:
        raise ConfigurationError(f"unknown setting in the environment: {', '.join(unknown)}")
    from_environment = os.environ.get("DATABASE_URL")
    if from_environment and f"{PREFIX}DATABASE_URL" not in os.environ and not given.get("database_url"):
        given["database_url"] = from_environment
    reading = toml_file.set(file)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(in_words(error)) from None
    except SettingsError as error:  # only the environment has values to take apart
        raise ConfigurationError(f'{error}; a list there is JSON, such as ["one", "two"]') from None
    # A TOML file that cannot be read, is no TOML, or is as deep as nobody means it.
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"settings file {file}: {error}") from None
    finally:
        toml_file.reset(reading)


def unknown_environment(environment: Mapping[str, str]) -> list[str]:
    """The SQLHTTP_ variables that name no setting; pydantic-settings itself would pass over them."""
    return sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and not _is_setting(name) and not _is_service_link(name, value)
    )


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made it, as it does for every service, and so for one whose name begins with sqlhttp."""
    if _SERVICE_LINK.search(name):
        return True
    return name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))


def _is_setting(variable: str) -> bool:
    path = variable[len(PREFIX) :].lower().split("__")
    if path == ["endpoint"]:  # the client's own variable
        return True
    fields: dict[str, FieldInfo] = Settings.model_fields
    for depth, name in enumerate(path):
        field = fields.get(name)
        if field is None:
            return False
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            fields = field.annotation.model_fields
        else:
            return depth == len(path) - 1 or (depth == 0 and name in BY_NAME)
    return True


def in_words(error: ValidationError) -> str:
    """One line a fault, with the setting's name and never its value, which may be a secret."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"]) or "settings"
        what = "there is no such setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"{name}: {what.removeprefix('Value error, ')}")
    return "\n".join(lines)
