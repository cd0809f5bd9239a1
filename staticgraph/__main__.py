"""``python -m staticgraph``: the command line."""

from .cli import main

raise SystemExit(main())
