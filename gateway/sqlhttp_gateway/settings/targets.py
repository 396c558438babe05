"""More Postgres servers than one: targets, their replicas, and the tenants whose names lead to them."""

import re
from typing import Self

from pydantic import Field, SecretStr, model_validator

from sqlhttp_gateway.settings.allowance import AllowanceSettings
from sqlhttp_gateway.settings.section import Seconds, Section


class TargetSettings(Section):
    """One more Postgres server that a connection string may choose."""

    url: SecretStr = Field(description="Its connection string, as for database_url.")
    aliases: tuple[str, ...] = Field(
        default=(), description="Host or host:port of connection strings that mean this target."
    )
    replicas: tuple[SecretStr, ...] = Field(default=(), description="More of its servers, as for replicas above.")


class ReplicaSettings(Section):
    """Targets of several servers: how they are looked at, and what a replica gets."""

    probe_interval: Seconds = Field(
        default=0.3, gt=0, le=60, description="Seconds between two looks at each server of a target that has several."
    )
    probe_timeout: Seconds = Field(default=1.0, gt=0, description="Seconds that a look may take until it has failed.")
    max_lag: Seconds = Field(
        default=10.0, ge=0, description="Seconds that a replica may be behind; one that is more gets nothing; 0: any."
    )
    bookmark_wait: Seconds = Field(
        default=1.0, ge=0, description="Seconds that a read waits for a replica to reach its bookmark."
    )
    failures: int = Field(
        default=3, ge=1, description="Failures in a row after which a server gets no reads for a while."
    )
    failure_pause: Seconds = Field(default=5.0, gt=0, description="That while, in seconds.")
    selects: bool = Field(
        default=False,
        description="Whether single statements whose plan, as Postgres makes it, changes and locks nothing go to "
        "replicas, too; a program that keeps no bookmarks may then not see its own last write.",
    )


class TenantSettings(AllowanceSettings):
    """Names by which callers mean a database that is called otherwise, or is on another target; and what it may take.

    In `target` and `database` stands {name} for what * stood for, else for the first label of the host, or for the
    name of the database.
    """

    hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts, of requests or in connection strings, that mean it; *.db.example is every one with one "
        "label in front.",
        examples=[["acme.example", "*.db.example"]],
    )
    databases: tuple[str, ...] = Field(
        default=(), description="Names in connection strings that mean its database.", examples=[["acme"]]
    )
    target: str = Field(default="default", description="The target it is on; {name} in it is the name that was used.")
    database: str | None = Field(
        default=None,
        description="The database, with {name} as in target; without it, as the connection string has it.",
        examples=["tenant_{name}"],
    )

    @model_validator(mode="after")
    def _are_names(self) -> Self:
        for host in self.hosts:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", host):
                raise ValueError(f"{host} is neither a host without a port nor *. and one")
        return self
