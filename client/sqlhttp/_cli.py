"""The console script `sqlhttp`: `query` and `tunnel` are the client's own, every other command is the gateway's."""

import sys
from collections.abc import Sequence

_WITHOUT_GATEWAY = """\
usage: sqlhttp query SQL [PARAMETER ...]
       sqlhttp tunnel URL

  query    run one statement over HTTP and print its rows; see sqlhttp query --help
  tunnel   open a local port for psql and the like through a gateway; see sqlhttp tunnel --help

The commands of the gateway, serve and dev among them, come with: pip install 'sqlhttp[gateway]'"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is returned."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["query"]:
        from sqlhttp import _query_command

        return _query_command.main(arguments[1:])
    if arguments[:1] == ["tunnel"]:
        from sqlhttp import _tunnel_command

        return _tunnel_command.main(arguments[1:])
    try:
        from sqlhttp_gateway import cli
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sqlhttp_gateway."):
            raise  # a fault of the gateway's own, which nobody can install
        if arguments in ([], ["-h"], ["--help"]):
            print(_WITHOUT_GATEWAY)
            return 0
        print(f"sqlhttp: {arguments[0]!r} needs the gateway: pip install 'sqlhttp[gateway]'", file=sys.stderr)
        return 2
    return cli.main(arguments)
