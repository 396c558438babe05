"""A process that has imported the gateway and forks another one for every line it reads, so that a start is quick.

A line says by which fuse the next one ends; the answers are its process id, and a line once it has ended. Its argument
is the port; the settings come from the environment.
"""

import asyncio
import gc
import os
import signal
import sys

import uvloop

from sqlhttp_gateway.settings import Settings, load_settings
from sqlhttp_gateway.workers import serve
from tests.faults.fuses import ARM, Fuse, Where, fit
from tests.faults.world import VARIABLE


def main() -> None:
    if os.environ.get(VARIABLE):
        from tests.faults.breakages import break_as_told

        break_as_told()
    settings = load_settings(listen={"port": int(sys.argv[1])})
    uvloop.run(asyncio.sleep(0))  # what is imported by the first loop is imported here
    gc.collect()
    gc.freeze()  # or each collection of a child would copy all pages of this process
    pid = 0
    for line in sys.stdin:
        if pid:
            os.waitpid(pid, 0)  # not before: until then the number is nobody else's, whoever may still kill it
        where, after = line.rsplit(maxsplit=1)
        pid = os.fork()
        if pid == 0:
            os._exit(_serve(settings, Fuse(Where(where), int(after))))
        print(pid, flush=True)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        print(-ended.si_status if ended.si_code == os.CLD_KILLED else ended.si_status, flush=True)


def _serve(settings: Settings, fuse: Fuse) -> int:
    signal.signal(ARM, signal.SIG_IGN)
    fit(fuse)
    return serve(settings, read=lambda: settings)


if __name__ == "__main__":
    main()
