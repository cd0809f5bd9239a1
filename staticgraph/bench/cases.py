"""What a case is: one formula, declared once, from which every contestant's work, bytes and figures are read.

A case names its inputs with their shapes, the graph of the formula, its NumPy form, how much arithmetic it needs, and
the settings (sizes and dtype) at which it is measured. Shapes are made of integers and of the names in a setting's
`sizes`; `free` names stay symbolic in the graph, so that one compile serves all sizes, the others are part of the type,
as widths of layers are.

Graph and peers state the formula alone, as a function of the inputs and then the state. What is done with it is the
same for everybody and follows from the declaration:

  forward     nothing else said: the results are those of the formula
  gradient    `wrt` names inputs: the results are followed by the gradients of the first, which is a scalar or has the
              input called `ct` as its cotangent (the formula itself is not given `ct`)
  training    there is `state`: the formula gives a loss; a step returns it and moves the state down its gradient (SGD)

The NumPy form does all of this by hand, as a NumPy user has to: it takes the inputs and the state, and returns the
results followed by the new state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import staticgraph as sg

Array = np.ndarray[Any, Any]
Sizes = Mapping[str, int]

COTANGENT = "ct"
LEARNING_RATE = 0.05
TINY = "tiny"

FLOAT64_GAIN = 1e-6
"""What is allowed of float64 results, as a fraction of what is allowed of float32 ones. Peers that compute erf or tanh
by float64 polynomials are within it; a float32 constant that slipped in is not."""


@dataclass(frozen=True)
class Data:
    """An input: floats, normally distributed with a scale or spread evenly over `between`; with `below`, int64 labels
    of that many classes (a number, or the name of a size)."""

    shape: tuple[str | int, ...]
    scale: float = 1.0
    below: int | str = 0
    between: tuple[float, float] | None = None

    def dtype(self, floats: str) -> str:
        return "int64" if self.below else floats

    def sized(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)

    def draw(self, random: np.random.Generator, sizes: Sizes, floats: str) -> Array:
        shape = self.sized(sizes)
        if self.below:
            return random.integers(0, sizes[self.below] if isinstance(self.below, str) else self.below, shape)
        if self.between is not None:
            return random.uniform(*self.between, shape).astype(floats)
        kind: Any = np.dtype(floats)
        drawn: Array = random.standard_normal(shape, kind) * kind.type(self.scale)
        return drawn


@dataclass(frozen=True)
class Setting:
    """Sizes and dtype at which a case is measured. `copy` is the percentage of the copy bandwidth to be reached where
    memory is what bounds it."""

    label: str
    sizes: Sizes
    dtype: str = "float32"
    copy: float = 0.0


@dataclass(frozen=True)
class Case:
    """One formula with its settings, the first of which is enough for a quick run.

    `least` is the figure to reach: how many times the time of staticgraph the best of the peers takes; `within` one in
    seconds. `form` is the formula's name where peers look it up, if it is not the case's.
    """

    name: str
    title: str
    inputs: Mapping[str, Data]
    graph: Callable[..., tuple[sg.Tensor, ...]]
    numpy: Callable[..., tuple[Array, ...]] | None
    settings: tuple[Setting, ...]
    tiny: Sizes
    flops: Callable[[Sizes], int]
    form: str = ""
    wrt: tuple[str, ...] = ()
    free: tuple[str, ...] = ("n",)
    state: Mapping[str, Data] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5
    least: float = 1.0
    within: float = 0.0

    @property
    def formula(self) -> str:
        """The name that peers have it by."""
        return self.form or self.name

    def allowed(self, dtype: str) -> float:
        """How far results may be from the interpreter's, as a fraction of the largest."""
        return self.tolerance * (FLOAT64_GAIN if dtype == "float64" else 1.0)

    def tiny_setting(self, dtype: str = "float32") -> Setting:
        return Setting(TINY, self.tiny, dtype)


def draw_arrays(case: Case, setting: Setting, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and first state of a case, the same in every process."""
    random = np.random.default_rng(seed)
    inputs = {name: data.draw(random, setting.sizes, setting.dtype) for name, data in case.inputs.items()}
    return inputs, {name: data.draw(random, setting.sizes, setting.dtype) for name, data in case.state.items()}


def declare(case: Case, setting: Setting) -> list[sg.Tensor]:
    """The placeholders of a case: free names symbolic, all other sizes fixed."""
    return [sg.placeholder(name, tuple(size if size in case.free or isinstance(size, int) else setting.sizes[size]
                                       for size in data.shape), data.dtype(setting.dtype))
            for name, data in case.inputs.items()]


def build(case: Case, placeholders: list[sg.Tensor],
          variables: list[sg.Tensor]) -> tuple[tuple[sg.Tensor, ...], list[sg.Tensor]]:
    """The graph of a case: results, and the new state."""
    named = dict(zip(case.inputs, placeholders))
    results = case.graph(*(node for name, node in named.items() if name != COTANGENT), *variables)
    if variables:
        slopes = sg.grad(results[0], variables)
        return results, [p - LEARNING_RATE * slope for p, slope in zip(variables, slopes)]
    if not case.wrt:
        return results, []
    wrt = [named[name] for name in case.wrt]
    slopes = (sg.vjp([results[0]], wrt, [named[COTANGENT]]) if COTANGENT in named else sg.grad(results[0], wrt))
    return (*results, *slopes), []


def reference(case: Case, setting: Setting, inputs: Mapping[str, Array], state: Mapping[str, Array]) -> list[Array]:
    """Results and new state by the interpreter: what every contestant is checked against."""
    placeholders = declare(case, setting)
    variables = [sg.variable(value, name) for name, value in state.items()]
    results, new_state = build(case, placeholders, variables)
    return list(sg.evaluate([*results, *new_state], dict(zip(placeholders, inputs.values()))))
