"""Which class speaks HTTP: the gateway's own, as far as the installed uvicorn is one that they know.

The lane and the guard are made on top of a class of uvicorn's that promises nobody to stay as it is. Where it has
changed, uvicorn's h11 class serves with those of the gateway's limits that uvicorn has settings for.
"""

import logging
import math
from typing import Any

import uvicorn

from sqlhttp_gateway.endpoints.guarded import GuardedProtocol
from sqlhttp_gateway.endpoints.lane import LaneProtocol
from sqlhttp_gateway.settings import Settings

_log = logging.getLogger(__name__)


def http_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn's configuration has to say of HTTP."""
    options: dict[str, Any] = {"timeout_keep_alive": math.ceil(settings.listen.keep_alive)}
    for own in (LaneProtocol, GuardedProtocol):
        if own.knows_uvicorn():
            return {**options, "http": own}
    # Not uvicorn's httptools class: that one lets a head be of any size.
    return {**options, "http": "h11", "h11_max_incomplete_event_size": settings.request.max_head_bytes}


def tell_of_less(http: object) -> None:
    """Log what `http`, the class that was chosen, cannot do."""
    if http is LaneProtocol:
        return
    advice = "install the uvicorn that requirements/gateway.txt names"
    if http is GuardedProtocol:
        _log.warning(
            "uvicorn %s is not known to this version: requests take a longer way and cost more; %s",
            *(uvicorn.__version__, advice),
        )
        return
    _log.warning(
        "uvicorn %s is not known to this version, and its own class for h11 serves HTTP: request.head_timeout, "
        "request.send_timeout and the limit of headers hold nobody, and requests cost more; %s, or have a proxy "
        "in front that bounds how slowly a head may come",
        *(uvicorn.__version__, advice),
    )
