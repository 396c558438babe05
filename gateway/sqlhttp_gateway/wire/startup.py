"""The start-up message: who wants into which database, and with which settings.

Every parameter that is a setting of Postgres is kept, those inside `options` included, so that a backend shared by
many can be given them. What only Neon's own proxy understands is dropped; what a pool cannot give is refused by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from

from sqlhttp_gateway.errors import BadRequest, CredentialsMissing, InvalidParameter, UnsupportedProtocol

POOL_MODES = ("session", "transaction")
_POOL_MODE = "pool_mode"
_SESSION_ATTRS = "target_session_attrs"
_NEON_WORDS = ("endpoint=", "project=", "neon_")
_FALSE = frozenset({"", "false", "off", "no", "0", "f", "n"})


@dataclass(frozen=True, slots=True)
class Startup:
    """A StartupMessage of protocol 3, sorted."""

    role: str
    database: str
    parameters: dict[str, str]
    """Settings by name, in the order given; one inside `options` yields to one beside it, as in Postgres."""
    pool_mode: str | None = None
    """One of POOL_MODES where the program chose, by the parameter `pool_mode` or that word inside `options`."""
    minor_version: int = 0
    target_session_attrs: str | None = None
    """Which of several servers the program wants, as it says."""
    protocol_options: tuple[str, ...] = ()
    """Names that begin with `_pq_.`, none of which we know."""


def decode_startup(packet: bytes) -> Startup:
    """The start-up message in a packet without tag.

    Raises:
        UnsupportedProtocol: another major version, or replication.
        InvalidParameter: a parameter or a word of `options` cannot be used.
        CredentialsMissing: no role is named.
        BadRequest: the packet is malformed.
    """
    version: int = unpack_from("!I", packet, 4)[0]
    if version >> 16 != 3:
        raise UnsupportedProtocol(
            f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: the gateway supports 3.0"
        )
    given = dict(_pairs(packet))
    protocol_options = tuple(name for name in given if name.startswith("_pq_."))
    for name in protocol_options:
        del given[name]
    role, database = given.pop("user", ""), given.pop("database", "")
    if not role:
        raise CredentialsMissing("no PostgreSQL user name specified in startup packet")
    if given.pop("replication", "").lower() not in _FALSE:
        raise UnsupportedProtocol("replication needs a connection of its own to Postgres, which a pool does not give")
    parameters = dict(decode_options(given.pop("options", ""))) | given
    pool_mode = parameters.pop(_POOL_MODE, None)
    if pool_mode is not None and pool_mode not in POOL_MODES:
        raise InvalidParameter(f'invalid value for parameter "{_POOL_MODE}": "{pool_mode}"')
    wanted = parameters.pop(_SESSION_ATTRS, None)
    return Startup(role, database or role, parameters, pool_mode, version & 0xFFFF, wanted, protocol_options)


def decode_options(options: str) -> Iterator[tuple[str, str]]:
    """The settings in the command-line words of `options`: `-c name=value`, `-cname=value`, `--name=value`.

    Raises:
        InvalidParameter: a word is none of these.
    """
    words = split_options(options)
    for word in words:
        if word.startswith(_NEON_WORDS):
            continue
        if word == "-c":
            setting = next(words, "")
        elif word.startswith(("-c", "--")):
            setting = word[2:]
        elif word.startswith(f"{_POOL_MODE}="):
            setting = word
        else:
            raise InvalidParameter(
                f'invalid word "{word}" in "options"', hint='Write settings as "-c name=value" or "--name=value".'
            )
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise InvalidParameter(f'"{word}" in "options" requires a name and a value')
        yield name.replace("-", "_"), value


def split_options(options: str) -> Iterator[str]:
    """Words between spaces; a backslash takes the next character as it is (Postgres's `pg_split_opts`)."""
    word: list[str] | None = None
    characters = iter(options)
    for character in characters:
        if character in " \t\n\v\f\r":
            if word is not None:
                yield "".join(word)
            word = None
        else:
            word = word or []
            word.append(next(characters, "") if character == "\\" else character)
    if word is not None:
        yield "".join(word)


def _pairs(packet: bytes) -> Iterator[tuple[str, str]]:
    strings = packet[8:].split(b"\0")
    # name, value, …, an empty name, and what split leaves after the last NUL
    if len(strings) < 2 or len(strings) % 2 or strings[-1] or strings[-2]:
        raise BadRequest("invalid startup packet layout: expected terminator as last byte")
    try:
        texts = [string.decode() for string in strings[:-2]]
    except UnicodeDecodeError:
        raise BadRequest("the start-up message is not in UTF-8") from None
    names, values = texts[::2], texts[1::2]
    if "" in names:
        raise BadRequest("invalid startup packet layout: expected terminator as last byte")
    return zip(names, values, strict=True)
