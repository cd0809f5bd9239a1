"""Locks that are open in a forked child.

A fork copies locks as they are, but only the thread that forks goes on in the child: a lock that another thread held
would stay closed there for ever. So locks that live as long as a module, a variable or an executable are made here, and
a child opens them all. What such a thread was writing meanwhile may be half written: a variable that a call was about
to update is then as good as in a process that was stopped.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_made: weakref.WeakSet[Any] = weakref.WeakSet()


def lock() -> threading.Lock:
    made = threading.Lock()
    _made.add(made)
    return made


def rlock() -> Any:
    """A lock that its owner may take again."""
    made = threading.RLock()
    _made.add(made)
    return made


def _open_all() -> None:
    for each in list(_made):
        each._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
