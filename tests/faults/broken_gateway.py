"""The gateway's command, broken as the environment says: see `breakages`."""

import sys

from sqlhttp_gateway.cli import main
from tests.faults.breakages import break_as_told

if __name__ == "__main__":
    break_as_told()
    sys.exit(main())
