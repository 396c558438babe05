"""What the sections of the settings are made of: their base, and the types of what most of them hold."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(allow_inf_nan=False)]
MAX_SECONDS = 2_147_483
"""Of what Postgres is told: it counts milliseconds in 32 bits, and refuses every connection that asks for more."""
Bytes = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One subject's settings: frozen, and deaf to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
