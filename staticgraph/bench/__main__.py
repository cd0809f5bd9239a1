"""``python -m staticgraph.bench``."""

from .run import main

raise SystemExit(main())
