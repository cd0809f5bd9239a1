"""What `compile` can be told, with the defaults: read by whoever checks options, without loading the compiler."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {"stabilise": True, "results": "host", "tf32": False, "threads": 0, "memory_budget": 0,
                           "sizes": {}, "check": "", "print_to": None}
"""Known options with their defaults. `results` says where the runtime leaves them: "host" | "device". `tf32`: float32
products on a GPU may round their factors to 10 bits of mantissa, which its tensor cores multiply many times faster.
`threads`: how many threads of the CPU calls may use; 0 leaves it to STATICGRAPH_NUM_THREADS and the machine.
`memory_budget`: the most bytes that the arena and the outputs may take together, 0 for no limit; values are computed
again to keep it (see `recompute`), for the values of symbolic dimensions that `sizes` gives by name. `check`: "nan" and
"inf" find the first of them (see `staticgraph.watching`), "" none. `print_to`: where `debug_print` writes, a file or a
function of a text; None is standard output."""

ONLY_AT_RUN_TIME = frozenset({"threads", "print_to"})
"""Options that no pass looks at: programs are the same with any value."""
