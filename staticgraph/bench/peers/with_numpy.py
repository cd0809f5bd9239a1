"""NumPy: the form that the case itself declares."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from ..cases import Array, Case, Setting
from . import Arrays, Contestant, NoForm, Peer


class NumPy:
    name = "numpy"
    package = "numpy"
    order = 10
    counts = True

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        return {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

    def connect(self, threads: int) -> None:
        if importlib.util.find_spec("threadpoolctl"):     # else the variables above have said it
            importlib.import_module("threadpoolctl").threadpool_limits(threads)

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        form = case.numpy
        if form is None:
            raise NoForm
        arguments, results = tuple(inputs.values()), len(state)
        current = [value.copy() for value in state.values()]

        def call() -> tuple[Array, ...]:
            values = form(*arguments, *current)
            count = len(values) - results
            current[:] = values[count:]
            return values[:count]

        def reset() -> None:
            current[:] = [value.copy() for value in state.values()]

        return Contestant(call, lambda: tuple(current), reset)


PEERS: tuple[Peer, ...] = (NumPy(),)
