"""What a program was told of the parameters that servers report, and so what it has still to be told.

At log-in it gets them all, from its first backend or from what another program's was (`Greeting`). Backends differ:
what the next one reports otherwise, the program is told as it would be of any change. Parameters that it has set itself
are the work of `session`.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.backend import encode_parameter_status

UTF8 = "UTF8"
"""As servers report it, whatever name it was asked for by."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a program was told at log-in."""

    told: Mapping[str, str]
    """Every ParameterStatus."""
    reported: Mapping[str, str]
    """Those of the server itself, before what start-up asks for."""


class Told:
    """What one program knows."""

    __slots__ = ("_values", "baseline", "is_recalled")

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self.baseline: Mapping[str, str] | None = None
        """What the last backend reported, whose values the program knows."""
        self.is_recalled = False
        """It was told what another program's backend had reported, and has had none of its own since."""

    @property
    def encoding(self) -> str:
        """The program's, which it takes everything to be in."""
        return self._values.get("client_encoding", UTF8)

    def learn(self, reported: Mapping[str, str]) -> Greeting:
        """Its first backend reports this. What came since the log-in there counts more."""
        self.baseline = reported
        self._values = {**reported, **self._values}
        return Greeting(dict(self._values), reported)

    def recall(self, greeting: Greeting) -> None:
        """It is let in with what another was told."""
        self.is_recalled = True
        self._values = dict(greeting.told)
        self.baseline = greeting.reported

    def statuses(self) -> list[bytes]:
        """A ParameterStatus for everything."""
        return [encode_parameter_status(name, value) for name, value in self._values.items()]

    def read(self, frame: bytes) -> tuple[str, bytes, bool]:
        """Take a ParameterStatus: the name, the value, and whether that is another than before.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        name_end = frame.find(b"\0", 5)
        if name_end < 0:
            raise RemoteProtocolError("malformed ParameterStatus")
        name, value = frame[5:name_end].decode(errors="replace"), frame[name_end + 1 : -1]
        before, now = self._values.get(name), value.decode(errors="replace")
        self._values[name] = now
        return name, value, now != before

    def differences(self, reported: Mapping[str, str], own: Container[str]) -> list[bytes]:
        """A ParameterStatus for each that another backend `reported` otherwise, but for the program's `own`, whose
        names are in lower case."""
        self.baseline = reported
        changed = {
            name: value
            for name, value in reported.items()
            if name.lower() not in own and self._values.get(name) != value
        }
        self._values |= changed
        return [encode_parameter_status(name, value) for name, value in changed.items()]
