"""A process that has imported the gateway and forks another one for every line it reads, so that a start is quick.

Prints each one's process id. Its arguments are the port; the settings come from the environment.
"""

import os
import signal
import sys
import time

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.settings import Settings, load_settings
from sqlhttp_gateway.workers import serve
from tests.faults.world import VARIABLE


def main() -> None:
    if os.environ.get(VARIABLE):
        from tests.faults.breakages import break_as_told

        break_as_told()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    settings = load_settings(listen={"port": int(sys.argv[1])})
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(_serve(settings))
        print(pid, flush=True)


def _serve(settings: Settings) -> int:
    while True:
        try:
            return serve(settings, read=lambda: settings)
        except ConfigurationError:  # the one before has been killed and still has the port
            time.sleep(0.01)


if __name__ == "__main__":
    main()
