"""What one request may be and may take: its body, its answer, its statements, and its Idempotency-Key."""

from pydantic import Field

from sqlhttp_gateway.settings.section import MAX_SECONDS, Bytes, OriginOrWord, Seconds, Section


class RequestSettings(Section):
    """What a request may be."""

    max_bytes: Bytes = Field(
        default=10_485_760, description="Most bytes of a request's body; more is answered with 413."
    )
    read_timeout: Seconds = Field(
        default=30.0, gt=0, description="Seconds in which a request's body must have arrived."
    )
    max_head_bytes: Bytes = Field(
        default=32_768,
        description="Most bytes of a request's path and headers; more is answered with 431. Chunked bodies may have as "
        "many for what stands between and behind their chunks.",
    )
    head_timeout: Seconds = Field(
        default=10.0,
        gt=0,
        description="Seconds in which a new connection must begin its request, and in which the head of a request must "
        "have arrived, or the rest of a body that was answered before it was whole.",
    )
    send_timeout: Seconds = Field(
        default=30.0,
        gt=0,
        description="Seconds after which a program that has not taken 64 KiB more of its answer, or all that was left, "
        "is cut off.",
    )
    deadline: Seconds = Field(
        default=0.0,
        ge=0,
        description="Most seconds from a request's last byte to its answer, waiting included; Sqlhttp-Timeout asks for "
        "less. 0: any. It costs each request a timer.",
    )
    allow_origins: tuple[OriginOrWord, ...] = Field(
        default=("*",),
        description="Origins of web pages that may use the gateway: * is any, local those of this machine, "
        "https://*.example.com every name below one.",
        examples=[["https://app.example.com"]],
    )


class ResponseSettings(Section):
    """What an answer may be."""

    max_bytes: Bytes = Field(
        default=10_485_760, description="Most bytes of rows in one answer; more is cancelled and answered with 507."
    )


class StatementSettings(Section):
    """What a statement may take."""

    timeout: Seconds = Field(
        default=60.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds that one statement may run, in place of what ALTER ROLE or ALTER DATABASE … SET "
        "statement_timeout says; 0 sets no limit but that.",
    )
    cancel_timeout: Seconds = Field(
        default=5.0, gt=0, description="Seconds that Postgres has to confirm a cancel before the connection is dropped."
    )


class IdempotencySettings(Section):
    """Writes that carry an Idempotency-Key."""

    lifetime: Seconds = Field(
        default=86_400.0,
        gt=0,
        le=1_000_000_000,
        description="Seconds that a key's answer is kept; later it is a new key.",
    )
    wait: Seconds = Field(
        default=5.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds that a request waits for another with its key; then it gets 409.",
    )
    max_answer_bytes: Bytes = Field(
        default=1_048_576, description="Most bytes of an answer that is kept; a write with a larger one is rolled back."
    )
    create: bool = Field(
        default=True,
        description="Whether the gateway's own role makes the table, schema sqlhttp, in a database at its first key.",
    )
