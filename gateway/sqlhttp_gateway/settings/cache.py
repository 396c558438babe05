"""Which answers are kept, for how long and where, and what is asked of the cache by default."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.neon.caching import wish_from_words
from sqlhttp_gateway.settings.section import Bytes, Seconds, Section


class CacheSettings(Section):
    """Answers that are kept for those who ask for it."""

    max_bytes: int = Field(
        default=67_108_864,
        ge=0,
        description="Bytes of answers that each worker keeps, and an eighth as much for recognizing requests that have"
        " one; 0: there is no cache.",
    )
    max_entry_bytes: Bytes = Field(default=1_048_576, description="Most bytes of one answer that is kept.")
    max_ttl: Seconds = Field(default=86_400.0, gt=0, description="Most seconds that a request may ask for as ttl.")
    max_swr: Seconds = Field(
        default=86_400.0, ge=0, description="Most seconds beyond ttl in which a stale answer may be asked for."
    )
    max_fetching: int = Field(
        default=1000, ge=1, description="Statements that may run for the cache at once; one more runs as without it."
    )
    plan_lifetime: Seconds = Field(
        default=60.0,
        gt=0,
        description="Seconds for which it is remembered what a statement reads and writes; for that long the cache may "
        "not know of a trigger or view that was changed past the gateway.",
    )
    listen: bool = Field(
        default=True,
        description="Whether each worker listens to NOTIFY sqlhttp_invalidate, over one connection for each database "
        "of which it keeps answers.",
    )
    shared_url: SecretStr | None = Field(
        default=None,
        description="redis://… of a Valkey or Redis in which all gateways share their answers; needs sqlhttp[redis].",
        examples=["redis://localhost:6379/0"],
    )
    shared_prefix: str = Field(default="sqlhttp:", description="What the names of its keys begin with.")
    shared_timeout: Seconds = Field(
        default=0.1, gt=0, description="Seconds that it has to answer; after that it is not asked until it is back."
    )
    shared_staleness: Seconds = Field(
        default=5.0,
        ge=0,
        description="Seconds for which a gateway goes on giving an answer from its own memory while it cannot hear "
        "what others invalidate.",
    )
    key_defaults: dict[str, str] = Field(
        default={},
        description="What requests with an API key ask for when they say nothing, by the key's id.",
        examples=[{"8f3a": "ttl=60 swr=30 tags=a,b"}],
    )
    role_defaults: dict[str, str] = Field(default={}, description="The same by role; a key's goes before it.")
    database_defaults: dict[str, str] = Field(default={}, description="The same by database; a role's goes before it.")

    @property
    def is_asked_by_default(self) -> bool:
        """Whether there are requests that ask the cache without a word of theirs."""
        return bool(self.key_defaults or self.role_defaults or self.database_defaults)

    @model_validator(mode="after")
    def _defaults_can_be_read(self) -> Self:
        for section in ("key_defaults", "role_defaults", "database_defaults"):
            for name, words in getattr(self, section).items():
                try:
                    wish_from_words(words)
                except BadRequest as error:
                    raise ValueError(f"{section}.{name}: {error.message}") from None
        return self
