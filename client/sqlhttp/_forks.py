"""What a fork leaves half done: imports of other threads, which the child has not.

Much is imported here when it is first needed. A thread that does so while another one forks holds the module's lock,
and in the child nobody gives it back: whoever needs the module there would wait for ever. Python itself makes only the
lock of all imports anew. Connections are `_transport`'s to give up.
"""

import os
import sys
from threading import get_ident
from typing import Any


def forget_imports_of_others() -> None:
    """In a child that has just been forked: modules whose import was another thread's are imported anew when needed."""
    import _frozen_importlib

    locks: dict[str, Any] = getattr(_frozen_importlib, "_module_locks", {})  # weak references to those that are in use
    for name, reference in list(locks.items()):
        if getattr(reference(), "owner", None) not in (None, get_ident()):
            sys.modules.pop(name, None)
            del locks[name]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_imports_of_others)
