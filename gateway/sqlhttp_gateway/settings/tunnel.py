"""Programs that speak Postgres's own wire: how long they keep a backend, and what they may take."""

from typing import Literal

from pydantic import Field

from sqlhttp_gateway.settings.section import Bytes, Seconds, Section


class TunnelSettings(Section):
    """Programs that speak Postgres's own wire, over a WebSocket or the TCP door."""

    pool_mode: Literal["transaction", "session"] = Field(
        default="transaction", description="How long a backend stays with a program that does not choose for itself."
    )
    role_pool_mode: dict[str, Literal["transaction", "session"]] = Field(
        default={}, description="The same for single roles, by name; goes before the database's."
    )
    database_pool_mode: dict[str, Literal["transaction", "session"]] = Field(
        default={}, description="The same for single databases, by name."
    )
    max_open: int = Field(default=10_000, ge=1, description="Most programs connected to one worker.")
    max_pinned: int = Field(
        default=5, ge=0, description="Most connections of one pool that may stay with a program beyond a transaction."
    )
    startup_timeout: Seconds = Field(default=15.0, gt=0, description="Seconds in which a program must have logged in.")
    send_timeout: Seconds = Field(
        default=30.0, gt=0, description="Seconds after which a program that does not read its answers is cut off."
    )
    linger: Seconds = Field(
        default=0.05,
        ge=0,
        description="Seconds that a connection which nobody else wants stays with the program that used it last, whose "
        "next transaction then needs no hand-over; 0: none.",
    )
    max_message_bytes: Bytes = Field(
        default=67_108_864, description="Most bytes of one WebSocket message; longer traffic is sent in several."
    )
    buffer_bytes: Bytes = Field(
        default=1_048_576, description="Bytes kept for a program in each direction before the other side has to wait."
    )
    idle_in_transaction_timeout: Seconds = Field(
        default=60.0, ge=0, description="Seconds that a transaction may be open with nothing happening in it; 0: any."
    )
    transaction_timeout: Seconds = Field(
        default=0.0, ge=0, description="Seconds that a transaction may be open at all; 0: any."
    )
    revoked_timeout: Seconds = Field(
        default=60.0,
        ge=0,
        description="Seconds for which a program whose key or token is good no more may go on with what it is at, such "
        "as a transaction; 0: any.",
    )
    client_idle_timeout: Seconds = Field(
        default=0.0, ge=0, description="Seconds that a program without a transaction may say nothing; 0: any."
    )
    pinned_idle_timeout: Seconds = Field(
        default=300.0, ge=0, description="The same for a program that keeps a backend beyond a transaction; 0: any."
    )
