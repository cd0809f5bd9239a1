"""``python -m staticgraph.bench``."""

from ..cli.exits import reporting
from .run import main

raise SystemExit(reporting(main))
