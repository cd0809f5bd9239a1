"""Layers: variables, and the graph that is built on them when the layer is called.

Level: tensor graph. A layer holds no values and runs nothing: calling it builds nodes, inside of a name scope, from its
variables. Parameters are found through the layer's attributes, in the order in which they were assigned, through lists,
tuples, dicts and other layers; one that is shared counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from ..errors import ArgumentError, ShapeError
from ..location import name_scope
from ..op import as_tensor
from ..ops.elementwise import tanh
from ..ops.indexing import take
from ..ops.leaf import variable
from ..ops.movement import reshape
from ..random import Generator as Samples
from ..shapes import as_shape
from ..tensor import Tensor
from ..types import product
from . import functional, initialisers
from .functional import Reduction
from .initialisers import Generator, Initialiser, initialiser

__all__ = [
    "AvgPool2d", "Conv1d", "Conv2d", "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "GELU", "Layer",
    "LayerNorm", "Linear", "MSELoss", "MaxPool2d", "ReLU", "SiLU", "Sequential", "Sigmoid", "Softmax", "Softplus",
    "Tanh",
]


class Layer:
    """Base of layers: assign variables and layers as attributes, and say in `forward` what is built of them.

    >>> class Residual(sg.nn.Layer):
    ...     def __init__(self, inner):
    ...         self.inner = inner
    ...     def forward(self, x):
    ...         return x + self.inner(x)
    """

    name: str | None = None
    training: bool = True
    """What `forward` builds where the two differ; see `train` and `eval`."""

    def forward(self, *inputs: Any) -> Tensor:
        """The layer's result as graph."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *inputs: Any) -> Tensor:
        with name_scope(self.name or type(self).__name__.lower()):
            return self.forward(*inputs)

    def parameters(self) -> list[Tensor]:
        """All variables of this layer and of those inside, each once, in the order of assignment."""
        found = {id(value): value for value in _inside(self) if isinstance(value, Tensor)}
        return [value for value in found.values() if value.op.name == "variable"]

    def train(self, mode: bool = True) -> Self:
        """Build for training from now on (with `mode` False: for use), here and in all layers inside.

        Graph that exists already stays as it is, so one model can be built both ways, on the same parameters.
        """
        for value in _inside(self):
            if isinstance(value, Layer):
                value.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Build for use from now on: dropout does nothing."""
        return self.train(False)


def _inside(layer: Layer) -> Iterator[Any]:
    """The layer and everything that it holds, through lists, tuples, dicts and layers; each of these once."""
    seen: set[int] = set()
    stack: list[Any] = [layer]
    while stack:
        value = stack.pop()
        if isinstance(value, Layer | list | tuple | dict):
            if id(value) in seen:
                continue
            seen.add(id(value))
            stack.extend(reversed(list(_held(value))))
        yield value


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, Layer):
        yield from vars(value).values()
    else:
        yield from value.values() if isinstance(value, dict) else value


class Linear(Layer):
    """x @ weight + bias: samples are rows, weight is (inputs, outputs), bias (outputs) and starts at zero.

    init: the name of an initialiser, or a function (shape, generator, dtype) -> array. Variables are called
    ``<name>.weight`` and ``<name>.bias``.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True, *, generator: Generator = None,
                 init: str | Initialiser = "he", dtype: Any = "float32", name: str = "linear") -> None:
        self.name = name
        self.weight = variable(initialiser(init)((inputs, outputs), generator, dtype), f"{name}.weight")
        self.bias = variable(initialisers.zeros((outputs,), dtype=dtype), f"{name}.bias") if bias else None

    def forward(self, x: Any) -> Tensor:
        y = as_tensor(x) @ self.weight
        return y if self.bias is None else y + self.bias


class _Convolution(Layer):
    """What Conv1d and Conv2d share: variables ``<name>.weight`` and ``<name>.bias``, and the attributes."""

    rank: int

    def __init__(self, inputs: int, outputs: int, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1, bias: bool = True, *, generator: Generator = None, init: str | Initialiser = "he",
                 dtype: Any = "float32", name: str | None = None) -> None:
        kind = type(self).__name__
        self.name = kind.lower() if name is None else name
        sizes = (kernel,) * self.rank if isinstance(kernel, int) else tuple(kernel)
        if len(sizes) != self.rank or not isinstance(groups, int) or groups < 1 or inputs % groups:
            raise ShapeError(f"{kind}: needed {self.rank} sizes of the kernel, and channels that fall into the groups, "
                             f"got a kernel {kernel!r} and {inputs} channels in {groups!r} groups")
        shape = as_shape(kind, (outputs, inputs // groups, *sizes))
        self.weight = variable(initialiser(init)(shape, generator, dtype), f"{self.name}.weight")  # type: ignore[arg-type]
        self.bias = variable(initialisers.zeros((outputs,), dtype=dtype), f"{self.name}.bias") if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Any) -> Tensor:
        function = functional.conv2d if self.rank == 2 else functional.conv1d
        return function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """`conv1d` of signals (n, inputs, length) with weights (outputs, inputs / groups, kernel) and a bias."""

    rank = 1


class Conv2d(_Convolution):
    """`conv2d` of images (n, inputs, rows, columns) with weights (outputs, inputs / groups, *kernel) and a bias."""

    rank = 2


class MaxPool2d(Layer):
    """The largest element of each window of rows and columns; see `max_pool2d`."""

    def __init__(self, kernel: Any, stride: Any = None, padding: Any = 0) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Any) -> Tensor:
        return functional.max_pool2d(x, self.kernel, self.stride, self.padding)


class AvgPool2d(Layer):
    """The mean of each window of rows and columns; see `avg_pool2d`."""

    def __init__(self, kernel: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        return functional.avg_pool2d(x, self.kernel, self.stride, self.padding, self.count_include_pad)


class Flatten(Layer):
    """Each sample as one row: (n, ...) to (n, elements of a sample)."""

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        return reshape(x, (x.shape[0], product(x.shape[1:])))


class Embedding(Layer):
    """A row of the (count, width) table for each index; indices are integers of any shape."""

    def __init__(self, count: int, width: int, *, generator: Generator = None, init: str | Initialiser = "normal",
                 dtype: Any = "float32", name: str = "embedding") -> None:
        self.name = name
        self.weight = variable(initialiser(init)((count, width), generator, dtype), f"{name}.weight")

    def forward(self, indices: Any) -> Tensor:
        return take(self.weight, indices, axis=0)


class LayerNorm(Layer):
    """Mean 0 and variance 1 over the last axes, which have the sizes `shape`, then a learned scale and shift."""

    def __init__(self, shape: int | Sequence[int], *, eps: float = 1e-5, affine: bool = True, dtype: Any = "float32",
                 name: str = "layer_norm") -> None:
        self.name = name
        sizes = as_shape("LayerNorm", shape)
        self.shape = tuple(size for size in sizes if isinstance(size, int) and size >= 0)
        if not sizes or self.shape != sizes:
            raise ShapeError(f"LayerNorm: needed known sizes, got {shape!r}")
        self.eps = eps
        self.weight = variable(initialisers.ones(self.shape, dtype=dtype), f"{name}.weight") if affine else None
        self.bias = variable(initialisers.zeros(self.shape, dtype=dtype), f"{name}.bias") if affine else None

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        count = len(self.shape)
        if x.shape[x.ndim - count:] != self.shape:
            raise ShapeError(f"LayerNorm: needed the last axes to be {self.shape}, got {x.type}")
        return functional.layer_norm(x, self.weight, self.bias, axes=tuple(range(-count, 0)), eps=self.eps)


class Dropout(Layer):
    """`dropout(x, rate, generator)` in training; x itself after ``eval()``. Each call has zeros of its own."""

    def __init__(self, rate: float, generator: Samples, *, name: str = "dropout") -> None:
        self.name = name
        self.rate = functional.dropout_rate(rate)
        self.generator = functional.dropout_generator(generator)

    def forward(self, x: Any) -> Tensor:
        return functional.dropout(x, self.rate, self.generator) if self.training else as_tensor(x)


class Sequential(Layer):
    """Layers (or functions of one tensor) one after the other: ``Sequential(a, b)`` or ``Sequential([a, b])``."""

    def __init__(self, *layers: Any, name: str = "sequential") -> None:
        self.name = name
        self.layers: list[Callable[[Any], Tensor]] = []
        for layer in layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers:
            self.append(layer)

    def append(self, layer: Callable[[Any], Tensor]) -> None:
        """Add a layer at the end; graphs that exist already stay as they are."""
        if not callable(layer):
            raise ArgumentError(f"Sequential: a layer is a Layer or a function of one tensor, got {layer!r}")
        self.layers.append(layer)

    def forward(self, x: Any) -> Tensor:
        result = as_tensor(x)
        for number, layer in enumerate(self.layers):
            with name_scope(str(number)):
                result = layer(result)
        return result

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Callable[[Any], Tensor]]:
        return iter(self.layers)

    def __getitem__(self, number: int) -> Callable[[Any], Tensor]:
        return self.layers[number]


# Activations as layers.


class ReLU(Layer):
    """max(x, 0); the gradient at 0 is 0."""

    def forward(self, x: Any) -> Tensor:
        return functional.relu(x)


class GELU(Layer):
    """x times the normal distribution function of x, or its "tanh" approximation."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return functional.gelu(x, approximate=self.approximate)


class SiLU(Layer):
    """x * sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return functional.silu(x)


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return functional.sigmoid(x)


class Tanh(Layer):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return tanh(x)


class Softplus(Layer):
    """log(1 + exp(x))."""

    def forward(self, x: Any) -> Tensor:
        return functional.softplus(x)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return functional.softmax(x, axis=self.axis)


# Losses as layers.


class CrossEntropyLoss(Layer):
    """`cross_entropy(logits, labels)`, its mean unless `reduction` says otherwise."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction = reduction

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return functional.cross_entropy(logits, labels, self.reduction)


class MSELoss(Layer):
    """`mse(predictions, targets)`, its mean unless `reduction` says otherwise."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction = reduction

    def forward(self, predictions: Any, targets: Any) -> Tensor:
        return functional.mse(predictions, targets, self.reduction)
