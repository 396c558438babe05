"""A child that is forked while another thread imports."""

import os
import subprocess
import sys

import pytest

CHILD_IMPORTS = """
import importlib.abc, importlib.machinery, os, signal, sys, threading
import sqlhttp
from sqlhttp._request import Request

begun, over = threading.Event(), threading.Event()

class Slow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == "sqlhttp._scan" and not begun.is_set():
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            self.real, spec.loader = spec.loader, self
            return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        begun.set()
        over.wait(60)
        self.real.exec_module(module)

def reads():
    return Request((), b"", ("select 1",)).reads_only

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=reads)
thread.start()
assert begun.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(20)  # its end, should it wait for ever
    os._exit(0 if reads() else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
over.set()
thread.join()
assert reads()
sys.exit(status != 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_imports_what_another_thread_was_importing_at_the_fork() -> None:
    command = (sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD_IMPORTS)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
