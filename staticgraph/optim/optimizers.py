"""Optimizers: the new values of parameters, and of the state that goes with them, as graph.

Level: tensor graph. ``updates()`` builds nodes and creates the state variables; nothing runs until the result is
compiled with ``sg.compile(..., updates=...)``, and then forward, backward and update are one call. All numbers take the
dtype of their parameter. An optimizer keeps its state by parameter: asked again, it builds on the same state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..autodiff import grad
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..ops.elementwise import astype, expm1, minimum, sqrt, square
from ..ops.leaf import variable
from ..ops.reduction import sum
from ..tensor import Tensor, operand_row

__all__ = ["Adam", "AdamW", "Optimizer", "SGD", "clip_by_global_norm"]

Rate = float | Tensor | Callable[[Tensor], Any]
Updates = dict[Tensor, Tensor]


class Optimizer:
    """Base of optimizers. A subclass says in `_update` what becomes of one parameter, given its gradient.

    lr: a number, a 0-d tensor (a variable that the caller assigns, or a formula), or a schedule: a function from the
    number of steps done so far, as a 0-d tensor, to the rate of the next one (see `cosine_decay`).
    """

    def __init__(self, lr: Any) -> None:
        self.lr: Rate = _rate(type(self).__name__, lr)
        self._state: dict[tuple[int, str], Tensor] = {}
        self._parameters: dict[int, Tensor] = {}  # keeps those alive whose id is a key of the state

    def updates(self, loss: Tensor | None, parameters: Iterable[Tensor],
                gradients: Sequence[Tensor] | None = None) -> Updates:
        """{variable: new value} of the parameters and of the optimizer's own state, for ``sg.compile(updates=...)``.

        loss: the scalar to be made small. With `gradients`, one a parameter (clipped, averaged, ...), it must be None.
        """
        targets = _checked_parameters(type(self).__name__, parameters)
        if (loss is None) == (gradients is None):
            raise ArgumentError(f"{type(self).__name__}: needed either a loss or gradients")
        slopes: list[Tensor] = grad(loss, targets) if gradients is None else list(gradients)  # type: ignore[arg-type]
        if len(slopes) != len(targets):
            raise ArgumentError(f"{type(self).__name__}: {len(targets)} parameters, {len(slopes)} gradients")
        result = self._common_updates()
        for parameter, slope in zip(targets, slopes, strict=True):
            self._parameters[id(parameter)] = parameter
            result.update(self._update(parameter, slope))
        return result

    def state(self) -> list[Tensor]:
        """The optimizer's own variables, in the order in which they were made: what to save beside the parameters."""
        return list(self._state.values())

    def named_state(self) -> list[tuple[str, Tensor]]:
        """The optimizer's own variables by name, as `sg.save` has them: ``count``, ``<parameter>.<kind>``, and ``lr``
        where the rate is a variable. A parameter without a name, or with another one's, goes by its number."""
        names = [parameter.name for parameter in self._parameters.values()]
        label = {number: name if name and names.count(name) == 1 else str(position)
                 for position, (number, name) in enumerate(zip(self._parameters, names))}
        found = [(f"{label[number]}.{kind}" if number else kind, value)
                 for (number, kind), value in self._state.items()]
        if isinstance(self.lr, Tensor) and self.lr.op.name == "variable":
            found.append(("lr", self.lr))
        return found

    @property
    def count(self) -> Tensor:
        """The variable that counts steps, for those that need to know: a whole number, shared by all parameters."""
        if (0, "count") not in self._state:
            self._state[0, "count"] = variable(np.int64(0), f"{type(self).__name__.lower()}.count")
        return self._state[0, "count"]

    def _common_updates(self) -> Updates:
        """Updates of the state that all parameters share."""
        return {self.count: self.count + 1} if callable(self.lr) else {}

    def _update(self, parameter: Tensor, gradient: Tensor) -> Updates:
        raise NotImplementedError(f"{type(self).__name__} has no _update()")

    def _slot(self, parameter: Tensor, kind: str) -> Tensor:
        """The state of that kind that belongs to a parameter; zeros when it is new."""
        key = (id(parameter), kind)
        if key not in self._state:
            name = f"{parameter.name}.{kind}" if parameter.name else kind
            self._state[key] = variable(np.zeros(parameter.shape, parameter.dtype), name)
        return self._state[key]

    def _rate_of(self, parameter: Tensor) -> Any:
        """The learning rate in the parameter's dtype; Python numbers take it by themselves."""
        rate = self.lr(astype(self.count, parameter.dtype)) if callable(self.lr) else self.lr
        rate = _rate(type(self).__name__, rate)
        return rate if isinstance(rate, float) else astype(rate, parameter.dtype)


class SGD(Optimizer):
    """Stochastic gradient descent: ``p - lr * g``.

    With momentum the step is ``b = momentum * b + g`` from b = 0, or with Nesterov's look ahead ``g + momentum * b``
    (both as in torch: the rate multiplies the sum, not the terms). `weight_decay` adds ``weight_decay * p`` to g.
    """

    def __init__(self, lr: Any, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> None:
        super().__init__(lr)
        self.momentum = _number("SGD: momentum", momentum)
        self.weight_decay = _number("SGD: weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ArgumentError("SGD: nesterov=True needs a momentum above 0")

    def _update(self, parameter: Tensor, gradient: Tensor) -> Updates:
        step = _decayed(parameter, gradient, self.weight_decay)
        result: Updates = {}
        if self.momentum:
            buffer = self._slot(parameter, "momentum")
            moved = self.momentum * buffer + step
            result[buffer] = moved
            step = step + self.momentum * moved if self.nesterov else moved
        result[parameter] = parameter - self._rate_of(parameter) * step
        return result


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015): ``p - lr * m' / (sqrt(v') + eps)`` with the moments

        m = beta1 * m + (1 - beta1) * g      m' = m / (1 - beta1**t)
        v = beta2 * v + (1 - beta2) * g**2   v' = v / (1 - beta2**t)

    where t counts the steps from 1. `weight_decay` adds ``weight_decay * p`` to g (AdamW decays p instead).
    """

    def __init__(self, lr: Any = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:
        super().__init__(lr)
        name = type(self).__name__
        self.beta1, self.beta2 = _number(f"{name}: beta1", beta1, below=1), _number(f"{name}: beta2", beta2, below=1)
        self.eps, self.weight_decay = _number(f"{name}: eps", eps), _number(f"{name}: weight_decay", weight_decay)

    def _common_updates(self) -> Updates:
        return {self.count: self.count + 1}

    def _update(self, parameter: Tensor, gradient: Tensor) -> Updates:
        return self._moved(parameter, parameter, _decayed(parameter, gradient, self.weight_decay))

    def _moved(self, parameter: Tensor, start: Tensor, gradient: Tensor) -> Updates:
        """The moments' updates, and Adam's step from `start`."""
        mean, spread = self._slot(parameter, "mean"), self._slot(parameter, "spread")
        first = self.beta1 * mean + (1 - self.beta1) * gradient
        second = self.beta2 * spread + (1 - self.beta2) * square(gradient)
        count = astype(self.count + 1, parameter.dtype)
        rate = self._rate_of(parameter) / _reached(self.beta1, count)
        root = sqrt(second / _reached(self.beta2, count))
        return {mean: first, spread: second, parameter: start - rate * first / (root + self.eps)}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): p shrinks by ``lr * weight_decay * p`` beside
    Adam's step, out of reach of the moments."""

    def __init__(self, lr: Any = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
                 weight_decay: float = 0.01) -> None:
        super().__init__(lr, beta1, beta2, eps, weight_decay)

    def _update(self, parameter: Tensor, gradient: Tensor) -> Updates:
        kept = parameter * (1 - self._rate_of(parameter) * self.weight_decay) if self.weight_decay else parameter
        return self._moved(parameter, kept, gradient)


def clip_by_global_norm(gradients: Sequence[Tensor], limit: float) -> list[Tensor]:
    """The gradients, scaled down together so that their common Euclidean norm is at most `limit`."""
    bound = _number("clip_by_global_norm: limit", limit)
    if not isinstance(gradients, list | tuple) or not all(isinstance(each, Tensor) for each in gradients):
        raise ArgumentError(f"clip_by_global_norm: needs a list of tensors, got {gradients!r}")
    if not gradients:
        return []
    total = sum(square(gradients[0]))
    for gradient in gradients[1:]:
        total = total + sum(square(gradient))
    # The smallest normal number keeps 0 / 0 away where all gradients are zero.
    factor = minimum(1.0, bound / (sqrt(total) + float(np.finfo(total.dtype).tiny)))
    return [gradient * astype(factor, gradient.dtype) for gradient in gradients]


def _decayed(parameter: Tensor, gradient: Tensor, weight_decay: float) -> Tensor:
    return gradient + weight_decay * parameter if weight_decay else gradient


def _reached(beta: float, count: Tensor) -> Any:
    """1 - beta**count: how much of its weight a running mean has after so many steps. expm1 keeps its digits in
    float32, where 1 - 0.999 would lose four of them."""
    return 1.0 if beta == 0 else -expm1(count * math.log(beta))


def _number(what: str, value: Any, below: float = math.inf) -> float:
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise ArgumentError(f"{what} is a number, got {value!r}")
    if not 0 <= value < below:
        raise ArgumentError(f"{what} must be at least 0{f' and below {below}' if below < math.inf else ''}, "
                            f"got {value!r}")
    return float(value)


def _rate(optimizer: str, lr: Any) -> Rate:
    if callable(lr):
        return lr  # type: ignore[no-any-return]
    if not isinstance(lr, Tensor):
        return _number(f"{optimizer}: lr", lr)
    if lr.ndim:
        raise ShapeError(message(f"{optimizer}: the learning rate is one number", [operand_row("lr", lr)],
                                 "needed shape ()"))
    return lr


def _checked_parameters(optimizer: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    targets = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    seen: set[int] = set()
    for target in targets:
        if not isinstance(target, Tensor) or target.op.name != "variable":
            rows = [operand_row("parameter", target)] if isinstance(target, Tensor) else []
            raise ArgumentError(message(f"{optimizer}: parameters are variables", rows,
                                        f"got {target.op.name if isinstance(target, Tensor) else target!r}"))
        if target.dtype.kind != "f":
            raise DTypeError(message(f"{optimizer}: a parameter is a floating-point variable",
                                     [operand_row("parameter", target)]))
        if id(target) in seen:
            raise ArgumentError(message(f"{optimizer}: a parameter is listed twice",
                                        [operand_row("parameter", target)]))
        seen.add(id(target))
    return targets
