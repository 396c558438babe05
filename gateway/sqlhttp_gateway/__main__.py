"""`python -m sqlhttp_gateway` is the `sqlhttp` command."""

import sys

from sqlhttp_gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
