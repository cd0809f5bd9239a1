"""staticgraph itself: the contestant that all others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import staticgraph as sg

from ..cases import Array, Case, Sizes, declare
from . import Arrays, Contestant, Peer


class StaticGraph:
    name = "staticgraph"
    package = "staticgraph"
    order = 0

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        return {"STATICGRAPH_CACHE_DIR": str(cache / "staticgraph"), "STATICGRAPH_NUM_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        """Nothing to do: the variables above have said it."""

    def prepare(self, case: Case, sizes: Sizes, inputs: Arrays, state: Arrays) -> Contestant:
        executable, variables = build(case, sizes, state)
        arguments = tuple(inputs.values())

        def call() -> tuple[Array, ...]:
            return executable(*arguments)     # type: ignore[no-any-return]

        def reset() -> None:
            for variable, value in zip(variables, state.values()):
                variable.value = value

        return Contestant(call, lambda: tuple(np.asarray(variable.value) for variable in variables), reset)


def build(case: Case, sizes: Sizes, state: Arrays) -> tuple[sg.Executable, list[sg.Tensor]]:
    """The case as an executable, and its variables."""
    placeholders = declare(case, sizes)
    variables = [sg.variable(value, name) for name, value in state.items()]
    values = case.graph(*placeholders, *variables)
    count = len(values) - len(variables)
    updates = dict(zip(variables, values[count:]))
    return sg.compile(placeholders, tuple(values[:count]), updates=updates), variables


PEERS: tuple[Peer, ...] = (StaticGraph(),)
