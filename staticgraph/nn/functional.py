"""Functions for neural networks: activations, convolutions, pooling, normalisation, dropout and losses.

Level: tensor graph. Nothing here is an op of its own: each function wraps a primitive or composite, so that
gradients, stability rules and fusion come with it. A loss gives one number an element (or a row) unless `reduction`
says otherwise.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..op import as_tensor, operands_message
from ..ops import composite
from ..ops.composite import gelu, layer_norm, log_softmax, silu, softmax
from ..ops.convolution import conv1d, conv2d
from ..ops.elementwise import absolute, astype, minimum, relu, sigmoid, softplus, tanh, where
from ..ops.indexing import take_along_axis
from ..ops.movement import reshape
from ..ops.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from ..ops.reduction import mean, sum
from ..random import Generator
from ..tensor import Tensor

__all__ = [
    "Reduction", "avg_pool1d", "avg_pool2d", "binary_cross_entropy", "conv1d", "conv2d", "cross_entropy", "dropout",
    "gelu", "huber", "layer_norm", "log_softmax", "max_pool1d", "max_pool2d", "mse", "nll", "reduce_loss", "relu",
    "sigmoid", "silu", "softmax", "softplus", "tanh",
]

Reduction = Literal["none", "mean", "sum"]


def dropout_rate(rate: Any) -> float:
    """The rate as a number from 0 to 1; ArgumentError otherwise."""
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or math.isnan(rate) or not 0 <= rate <= 1:
        raise ArgumentError(f"dropout: rate is the share of elements to drop, a number from 0 to 1, got {rate!r}")
    return float(rate)


def dropout_generator(generator: Any) -> Generator:
    """The generator; ArgumentError for anything else."""
    if not isinstance(generator, Generator):
        raise ArgumentError(f"dropout: needs a generator made by sg.random.generator(seed), got {generator!r}")
    return generator


def dropout(x: Any, rate: float, generator: Generator) -> Tensor:
    """Each element zero with probability `rate`, otherwise x / (1 - rate), so that the mean stays.

    generator: an `sg.random.generator`. Gradients see the same zeros as the value. Rate 0 gives x itself, rate 1 zeros.
    The rate is rounded to a multiple of 2**-32.
    """
    x, share = as_tensor(x), 1.0 - dropout_rate(rate)
    if x.dtype.kind != "f":
        raise DTypeError(operands_message("dropout: needs floating-point numbers", [x]))
    kept = dropout_generator(generator).bernoulli(x.shape, share)  # also for rate 0: later samples stay the same
    return where(kept, x * (1.0 / share if share else 0.0), 0) if share < 1.0 else x


def reduce_loss(losses: Tensor, reduction: Reduction) -> Tensor:
    """The losses as they are ("none"), their mean or their sum."""
    if reduction == "none":
        return losses
    if reduction == "mean":
        return mean(losses)
    if reduction == "sum":
        return sum(losses)
    raise ArgumentError(operands_message(
        f'{losses.op.name}: the reductions are "none", "mean" and "sum", not {reduction!r}', losses.inputs))


def cross_entropy(logits: Any, labels: Any, reduction: Reduction = "none") -> Tensor:
    """-log(softmax(logits)) of the label, row by row over the last axis.

    labels: class numbers of the shape of the logits without the last axis, or probabilities of the logits' shape.
    """
    return reduce_loss(composite.cross_entropy(logits, labels), reduction)


def nll(log_probabilities: Any, labels: Any, reduction: Reduction = "none") -> Tensor:
    """Negative log-likelihood: minus the entry of each row that the label names; rows lie along the last axis."""
    rows, labels = as_tensor(log_probabilities), as_tensor(labels)
    chosen = take_along_axis(rows, reshape(labels, (*labels.shape, 1)), axis=-1)
    return reduce_loss(-reshape(chosen, labels.shape), reduction)


def mse(predictions: Any, targets: Any, reduction: Reduction = "none") -> Tensor:
    """The squared difference."""
    return reduce_loss(composite.mse(predictions, targets), reduction)


def huber(predictions: Any, targets: Any, delta: float = 1.0, reduction: Reduction = "none") -> Tensor:
    """Half the squared difference where that is below `delta`, from there on a straight line of the same slope."""
    distance = absolute(as_tensor(predictions) - targets)
    near = minimum(distance, delta)
    return reduce_loss(near * (distance - 0.5 * near), reduction)


def binary_cross_entropy(logits: Any, targets: Any, reduction: Reduction = "none") -> Tensor:
    """-log(sigmoid(logits)) where the target is 1, -log(1 - sigmoid(logits)) where it is 0, and between in proportion.

    Both parts are softplus, which keeps the digits of small losses.
    """
    logits, targets = as_tensor(logits), as_tensor(targets)
    share = astype(targets, logits.dtype) if targets.dtype.kind in "biu" else targets
    return reduce_loss(share * softplus(-logits) + (1 - share) * softplus(logits), reduction)
