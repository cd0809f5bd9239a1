"""``staticgraph cache``: what is kept on disk, and why something of a model had to be compiled again."""

from __future__ import annotations

import argparse
from typing import Any

from .models import CommandError, find_model
from .profile import write_json

HELP = """\
The cache of compiled programs and kernels.

  staticgraph cache info                       the folder, and how much is in it
  staticgraph cache clear                      remove everything
  staticgraph cache explain model.py:step      what of a model came from the cache, and why the rest did not

STATICGRAPH_CACHE_DIR says where it is; STATICGRAPH_CACHE=0 does without. It may be removed at any time."""


def add_parser(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("cache", help="show, empty or explain the cache of compiled kernels", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("info", "clear", "explain"), help="what to do")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="to explain: path/to/model.py:name")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="as JSON, into FILE or instead of text")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if (options.model is not None) != (options.action == "explain"):
        raise CommandError("cache explain needs a model: path/to/model.py:name" if options.action == "explain" else
                           f"cache {options.action} takes no model")
    if options.action == "explain":
        return _explain(options)
    return _clear(options) if options.action == "clear" else _info(options)


def _info(options: argparse.Namespace) -> int:
    from ..runtime import cache

    known = cache.info()
    if options.json != "-":
        print(f"folder   {known.folder or 'none'}")
        print(f"entries  {known.entries}")
        print(f"bytes    {known.nbytes:,}")
        print(f"programs {known.programs}")
        if known.remark:
            print(f"remark   {known.remark}")
    write_json(options.json, {"kind": "cache", "folder": str(known.folder or ""), "entries": known.entries,
                              "bytes": known.nbytes, "programs": known.programs, "remark": known.remark})
    return 0


def _clear(options: argparse.Namespace) -> int:
    from ..runtime import cache

    folder, removed = cache.info().folder, cache.clear()
    if options.json != "-":
        print(f"removed {removed} {'entry' if removed == 1 else 'entries'} from {folder}")
    write_json(options.json, {"kind": "cache", "folder": str(folder or ""), "removed": removed})
    return 0


def _explain(options: argparse.Namespace) -> int:
    """Load the model as a new process does, and tell where each part came from."""
    from ..runtime import cache
    from ..runtime.figures import align

    executable = find_model(options.model).compile()
    kernels = executable.origins
    known = cache.info()
    found = {"kind": "cache explain", "model": options.model, "folder": str(known.folder or ""), "remark": known.remark,
             "program": executable.account, "kernels": [
                 {"kernel": name, "origin": origin, "milliseconds": milliseconds, "remark": remark}
                 for name, origin, milliseconds, remark in kernels]}
    if options.json != "-":
        print(f"cache    {known.folder or 'none'}{f' ({known.remark})' if known.remark else ''}")
        print(f"program  {executable.account or 'not told'}")
        rows = [["kernel", "origin", "remark", "ms"],
                *([name, origin, remark, f"{milliseconds:.1f}"] for name, origin, milliseconds, remark in kernels)]
        print(f"kernels\n{align(rows, 3)}" if kernels else "kernels  none")
    write_json(options.json, found)
    return 0
