"""Whether a server looks, while it runs a statement, if the gateway that asked is still there.

Postgres reads from its client between statements only. A gateway that was killed, or whose machine is gone, would leave
statements running beside the bound on connections, and the next gateway, or worker in its place, would open its own on
top of them. Postgres 14 and later can look in the meantime (client_connection_check_interval).
"""

PARAMETER = "client_connection_check_interval"


class ClientCheck:
    """What one server has said to the wish so far. An older one, or one on a system that cannot, refuses it."""

    def __init__(self, interval: float) -> None:
        """`interval` is in seconds."""
        self._parameters = {PARAMETER: str(max(1, round(interval * 1000)))}
        self._is_refused = False

    def added_to(self, parameters: dict[str, str]) -> dict[str, str]:
        """Start-up parameters with the wish among them, unless it was refused or somebody has one of their own."""
        if self._is_refused or PARAMETER in parameters.get("options", ""):
            return parameters
        return parameters | self._parameters

    def take_refusal(self, message: str) -> bool:
        """Whether it was the wish that the server refused a log-in for; then it is not told again.

        Which error that is depends on the server (unknown, not on this system, not through this pooler); all of them
        name the parameter.
        """
        if self._is_refused or PARAMETER not in message:
            return False
        self._is_refused = True
        return True
