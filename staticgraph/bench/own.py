"""A user's own model as a contest: the compiled graph, checked against the interpreter, beside functions of the user's.

``name_peers`` in the model's file maps labels to functions that take the inputs, as arrays in the order of the
placeholders, and return the results in their order (one array or several); new values of variables are not asked of
them. What they keep they keep: nothing puts their state back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

import staticgraph as sg

from ..api import advancing, flatten_outputs
from ..cli.inputs import inputs_of
from ..cli.models import CommandError, Model, find_model
from ..tensor import toposort
from ..types import evaluate_size
from .cases import FLOAT64_GAIN, Array
from .contest import Contest, Entry
from .figures import OURS
from .peers import Contestant
from .peers.with_staticgraph import contestant

SUITE = "model"
TOLERANCE = 1e-3
"""Of float32 results, as a fraction of the largest: the user's graph may be deep."""


def contest_of_model(text: str, sizes: Mapping[str, int], below: Mapping[str, int]) -> tuple[Contest, list[Entry]]:
    """The contest and the contestants of ``path/to/model.py:name``."""
    model = find_model(text)
    executable = model.compile()
    program = executable.program
    inputs, known = inputs_of(model, program.inputs, sizes, below)
    variables, expected = _meaning(model, inputs) if model.is_known else ([], None)
    state = {f"{number} {node.name}": np.asarray(node.value) for number, node in enumerate(variables)}
    wide = any(spec.dtype == "float64" for spec in program.outputs)
    exact = wide and not _has_narrow_floats(model)
    flops = sum(evaluate_size(program.notes[step.note].flops, known) for step in program.steps)
    contest = Contest(
        SUITE, model.name, text, ", ".join(f"{name}={size}" for name, size in known.items()) or "fixed sizes", known,
        "float64" if wide else "float32", inputs, state, expected, flops,
        TOLERANCE * (FLOAT64_GAIN if exact else 1.0))
    arrays = tuple(inputs.values())
    first = dict(zip(variables, state.values()))
    ours: Entry = (OURS, lambda: contestant(_flat(partial(executable, *arrays)), executable, first))
    return contest, [ours, *_peers(model, arrays)]


def _meaning(model: Model, inputs: Mapping[str, Array]) -> tuple[list[sg.Tensor], list[Array]]:
    """The variables that a call moves, and results and new values by the interpreter."""
    outputs, _ = flatten_outputs(model.outputs)
    updates = advancing(outputs, model.updates)
    graph = [*outputs, *updates.values()]
    if model.options.get("stabilise", True):
        graph = list(sg.stabilise(graph))
    expected = list(sg.evaluate(graph, {node: inputs[str(node.name)] for node in model.inputs}))
    for number, each in enumerate(expected[:len(outputs)]):
        if each.dtype.kind == "f" and not np.isfinite(each).all():
            if model.beside("inputs") is not None:
                raise CommandError(f"result {number} of {model.name} is not finite for {model.name}_inputs of the file")
            raise CommandError(f"result {number} of {model.name} is not finite for inputs that were made up: say "
                               f"better ones in the file, as {model.name}_inputs = {{name: array}}")
    return list(updates), expected


def _has_narrow_floats(model: Model) -> bool:
    """Whether anything is computed in less than float64: a float64 result is then no more accurate than that."""
    graph = [*flatten_outputs(model.outputs)[0], *model.updates.values()] if model.is_known else []
    return any(node.dtype.kind == "f" and node.dtype.itemsize < 8 for node in toposort(graph))


def _peers(model: Model, arrays: Sequence[Array]) -> list[Entry]:
    peers = model.beside("peers")
    if peers is None:
        return []
    if not isinstance(peers, Mapping) or not all(map(callable, peers.values())):
        raise CommandError(f"{model.name}_peers is a mapping from labels to functions of the inputs")
    if OURS in map(str, peers):
        raise CommandError(f"{model.name}_peers has a label '{OURS}', which is the name of what it is compared with")
    return [(str(label), partial(Contestant, _flat(partial(function, *arrays)), None))
            for label, function in peers.items()]


def _flat(call: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
    """The call with its results as a tuple, whatever their structure."""
    def flat() -> tuple[Any, ...]:
        results = call()
        if isinstance(results, dict):
            return tuple(results.values())
        return tuple(results) if isinstance(results, list | tuple) else (results,)

    return flat
