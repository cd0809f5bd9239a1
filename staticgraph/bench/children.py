"""Child processes: the environment that a fair run needs must be there before any library is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .peers import Peer

PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent


def environment(peers: Sequence[Peer], cache: Path, threads: int) -> dict[str, str]:
    """This process's environment, with caches below a folder and threads as told."""
    variables = dict(os.environ)
    for peer in peers:
        variables.update(peer.environment(cache, threads))
    path = [str(PACKAGE_ROOT), *filter(None, [variables.get("PYTHONPATH")])]
    return {**variables, "PYTHONPATH": os.pathsep.join(path)}


def run_module(name: str, arguments: Sequence[str], variables: dict[str, str], *,
               capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one of our modules in a new Python; its output goes to ours, or is captured."""
    return subprocess.run([sys.executable, "-m", name, *arguments], env=variables, text=True, check=False,
                          capture_output=capture)
