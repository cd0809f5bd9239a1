"""Inputs for a user's model, made up where the file does not say them.

Floats are normally distributed, integers are 0 or 1 (or below a bound that was given), truth values are even chances;
symbolic sizes are 64 unless they were given. The file may say some or all in ``name_inputs``: a mapping from
placeholders' names to arrays, or a function from the sizes to one. Sizes then follow those arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..runtime.dump.made_up import BELOW, SIZE, random_array
from ..types import Dim, evaluate_size, size_symbols
from .models import CommandError, Model, telling_failures


def inputs_of(model: Model, specs: Sequence[Any], sizes: Mapping[str, int],
              below: Mapping[str, int]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, int]]:
    """Arrays by name for the inputs of a program (`specs`: name, shape, dtype), and the sizes."""
    symbols = {name for spec in specs for size in spec.shape for name in size_symbols(size)}
    _refuse_strangers(sizes, symbols, "symbolic size")
    _refuse_strangers(below, {spec.name for spec in specs if np.dtype(spec.dtype).kind in "iu"}, "input of integers")
    given = _given(model, {name: SIZE for name in sorted(symbols)} | dict(sizes))
    _refuse_strangers(given, {spec.name for spec in specs}, "input")
    settled = {**_measured(specs, given), **sizes}
    known = {name: settled.get(name, SIZE) for name in sorted(symbols)}
    random = np.random.default_rng(0)
    return {spec.name: given[spec.name] if spec.name in given else random_array(
        random, [evaluate_size(size, known) for size in spec.shape], np.dtype(spec.dtype),
        below.get(spec.name, BELOW)) for spec in specs}, known


def _refuse_strangers(named: Mapping[str, Any], known: set[str], what: str) -> None:
    strangers = sorted(set(named) - known)
    if strangers:
        raise CommandError(f"the model has no {what} '{strangers[0]}'; it has: {', '.join(sorted(known)) or 'none'}")


def _given(model: Model, sizes: Mapping[str, int]) -> dict[str, np.ndarray[Any, Any]]:
    found = model.beside("inputs")
    if callable(found):
        with telling_failures(f"{model.name}_inputs"):
            found = found(sizes)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise CommandError(f"{model.name}_inputs is a mapping from placeholders' names to arrays, or a function of the "
                           f"sizes that makes one; got {type(found).__name__}")
    return {str(getattr(name, "name", name)): np.asarray(value) for name, value in found.items()}


def _measured(specs: Sequence[Any], given: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, int]:
    """The sizes that are read off arrays."""
    found = {}
    for spec in specs:
        if spec.name in given and given[spec.name].ndim == len(spec.shape):
            for size, length in zip(spec.shape, given[spec.name].shape):
                if isinstance(size, Dim) and size.symbols() == {str(size)}:
                    found[str(size)] = length
    return found


