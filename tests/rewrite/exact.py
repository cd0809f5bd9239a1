"""The exact meaning of a graph, in mpmath: the judge of rules that claim to be more accurate.

Comes in: a graph of elementwise ops and reductions, and arrays. Goes out: an array of mpf, with nan where the formula
has no real value. 800 digits hold ``1 + exp(-1500)`` without rounding the exponential away.
"""

import mpmath
import numpy as np
from mpmath import mp, mpf

from staticgraph.tensor import toposort

DIGITS = 800


def real(function):
    """The function with nan for what is not real."""

    def wrapped(*args):
        if any(mpmath.isnan(each) for each in args):
            return mp.nan
        try:
            result = function(*args)
        except (ValueError, ZeroDivisionError, OverflowError):
            return mp.nan
        return result if isinstance(result, mpf) else mp.nan

    return wrapped


def power(x, exponent):
    if exponent == int(exponent):
        return x ** int(exponent) if x != 0 or exponent >= 0 else mp.inf
    return x ** exponent


def divide(a, b):
    return a / b if b != 0 else mp.nan if a == 0 else mp.inf * mp.sign(a)


def log(x):
    return -mp.inf if x == 0 else mp.log(x)


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


ELEMENTWISE = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": divide, "negative": lambda x: -x, "abs": abs, "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x, "pow": power, "sqrt": mp.sqrt, "exp": mp.exp, "log": log,
    "expm1": lambda x: mp.exp(x) - 1, "log1p": lambda x: log(1 + x), "cos": mp.cos, "sin": mp.sin, "tanh": mp.tanh,
    "sinh": mp.sinh, "cosh": mp.cosh, "erf": mp.erf, "erfc": mp.erfc, "sigmoid": sigmoid,
    "softplus": lambda x: log(1 + mp.exp(x)), "hypot": lambda a, b: mp.sqrt(a * a + b * b),
    "asinh": mp.asinh, "atanh": lambda x: log((1 + x) / (1 - x)) / 2, "log2": lambda x: log(x) / mp.log(2),
    "log10": lambda x: log(x) / mp.log(10), "logaddexp": lambda a, b: log(mp.exp(a) + mp.exp(b)),
    "stop_gradient": lambda x: x,
}

logs = np.frompyfunc(real(log), 1, 1)
exps = np.frompyfunc(real(mp.exp), 1, 1)


def kept_sum(values, axes):
    return np.sum(values, axis=axes, keepdims=True)


OTHERS = {
    "sum": lambda x, axes: np.sum(x, axis=axes),
    "slice": lambda x, starts, steps, shape: x[tuple(
        slice(start, start + size * step, step) for start, step, size in zip(starts, steps, shape))],
    "permute_dims": lambda x, axes: x.transpose(axes),
    "gather": lambda x, indices, axis: np.take(x, indices.astype(int), axis),
    "gather_along": lambda x, indices, axis: np.take_along_axis(x, indices.astype(int), axis),
    "max": lambda x, axes: np.max(x, axis=axes),
    "reshape": lambda x, shape: x.reshape(shape),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "softmax": lambda x, axis: exps(x) / kept_sum(exps(x), axis),
    "log_softmax": lambda x, axis: x - logs(kept_sum(exps(x), axis)),
    "logsumexp": lambda x, axes: logs(np.sum(exps(x), axis=axes)),
}


def exact(output, feed):
    """The exact value of `output`; `feed` maps placeholders to float arrays, which are taken as they are."""
    with mp.workdps(DIGITS):
        values = {}
        for node in toposort([output]):
            inputs = [values[id(each)] for each in node.inputs]
            if node in feed or node.op.name == "constant":
                array = np.asarray(feed[node] if node in feed else node.attrs["value"])
                values[id(node)] = np.array(np.frompyfunc(lambda v: mpf(float(v)), 1, 1)(array), dtype=object)
            elif node.op.name in ELEMENTWISE:
                function = np.frompyfunc(real(ELEMENTWISE[node.op.name]), len(inputs), 1)
                values[id(node)] = np.array(function(*inputs), dtype=object)
            else:
                values[id(node)] = np.array(OTHERS[node.op.name](*inputs, **node.attrs), dtype=object)
        return values[id(output)]


def exact_slope(output, leaf, values):
    """The derivative of an elementwise formula of one variable at each value; nan where it has none."""
    order = toposort([output])

    def formula(value):
        known = {}
        for node in order:
            inputs = [known[id(each)] for each in node.inputs]
            if node is leaf:
                known[id(node)] = value
            elif node.op.name == "constant":
                known[id(node)] = mpf(float(node.attrs["value"].flat[0]))
            else:
                known[id(node)] = inputs[0] if node.op.name == "broadcast_to" else real(
                    ELEMENTWISE[node.op.name])(*inputs)
        return known[id(output)]

    with mp.workdps(DIGITS):
        step = mpf(10) ** (-DIGITS // 3)
        return [(formula(value + step) - formula(value - step)) / (2 * step) for value in map(mpf, values.tolist())]


def errors(computed, reference):
    """The distance of each element from the exact value in units in the last place; nan for an undefined value."""
    result = np.empty(computed.shape)
    info = np.finfo(computed.dtype)
    for place in np.ndindex(computed.shape):
        value, true = float(computed[place]), reference[place]
        if mpmath.isnan(true):
            result[place] = np.nan
        elif np.isinf(value) or np.isnan(value) or abs(true) > info.max:
            rounded = np.sign(float(mpmath.sign(true))) * np.inf if abs(true) > info.max else None
            result[place] = 0.0 if rounded is not None and value == rounded else np.inf
        else:
            unit = np.spacing(computed.dtype.type(max(abs(float(true)), float(info.tiny))))
            result[place] = float(abs(mpf(value) - true) / mpf(float(unit)))
    return result
