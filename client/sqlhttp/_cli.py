"""The console script `sqlhttp`: `query` is the client's own, every other command is the gateway's."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is returned."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        from sqlhttp_gateway import cli
    except ImportError:
        print("sqlhttp: this command needs the gateway: pip install 'sqlhttp[gateway]'", file=sys.stderr)
        return 2
    return cli.main(arguments)
