"""``staticgraph doctor --math``: the vector mathematics on every float32, and on samples of float64.

A function of one operand is compiled as users compile it and run on all 2**32 patterns of bits. The reference is the
float64 function of NumPy or of the C library, which share no code with the kernels and are exact enough: their error is
below 2**-27 of a float32's last place. In float64, and for functions of two operands, samples decide: random patterns
of bits, and as many where functions have their features; float64 against mpmath, which has as many digits as it takes.

An error is counted in units in the last place of the float nearest to the reference. Infinity counts as the power of
two after the largest float. Wrong, whatever the distance, is nan on one side only and a zero of the other sign.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Reference = Callable[..., Any]

EVERY = 2**32
CHUNK = 2**15
FLOAT64_SAMPLES = 20_000
LIMIT = 2.0
"""Units in the last place that no function may exceed, but these:"""
EXCEPTIONS = {"acosh": 2.1, "erfc": 2.1}

NUMPY_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh",
               "atanh": "arctanh", "atan2": "arctan2", "pow": "power"}
UNARY = ("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "tanh", "sigmoid", "softplus", "erf", "erfc", "sin",
         "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "sqrt", "reciprocal")
BINARY = ("pow", "atan2", "hypot")

# mpmath would build numbers of astronomical size for arguments beyond.
GROWING = ("exp", "exp2", "expm1", "sinh", "cosh", "tanh", "softplus", "sigmoid", "erf", "erfc")
LARGEST_GROWING = 1500.0


@dataclass
class Accuracy:
    """What was found of one function in one dtype. `rounded` is the share of results that are the nearest float."""

    function: str
    dtype: str
    checked: int = 0
    worst: float = 0.0
    at: tuple[float, ...] = ()
    wrong: int = 0
    wrong_at: tuple[float, ...] = ()
    rounded: float = 0.0
    seconds: float = 0.0
    _nearest: int = field(default=0, repr=False)

    @property
    def passed(self) -> bool:
        return self.wrong == 0 and self.worst <= EXCEPTIONS.get(self.function, LIMIT)

    def add(self, operands: Sequence[Array], errors: Array, wrong: Array | None) -> None:
        """Errors of a chunk, in units in the last place, and which are wrong in kind."""
        self.checked += errors.size
        self._nearest += int(np.count_nonzero(errors <= 0.5000001))
        self.rounded = self._nearest / self.checked
        place = int(np.argmax(errors))
        if errors[place] > self.worst:
            self.worst, self.at = float(errors[place]), tuple(float(each[place]) for each in operands)
        if wrong is not None and wrong.any():
            self.wrong_at = self.wrong_at or tuple(float(each[np.argmax(wrong)]) for each in operands)
            self.wrong += int(np.count_nonzero(wrong))


def run(names: Sequence[str] = (), samples: int = EVERY, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Check the functions (all, if none is named); what was found, ready for JSON."""
    found: list[Accuracy] = []
    with_float64 = importlib.util.find_spec("mpmath") is not None
    if not with_float64:
        tell("float64 is not checked: pip install mpmath")
    tell("function    dtype          checked   worst  nearest  wrong    time  at")
    for name in names or (*UNARY, *BINARY):
        for dtype in ("float32", "float64") if with_float64 else ("float32",):
            accuracy = check_float32(name, samples) if dtype == "float32" else check_float64(
                name, min(samples, FLOAT64_SAMPLES))
            found.append(accuracy)
            tell(line(accuracy))
    passed = all(each.passed for each in found)
    tell("all within the limit" if passed else f"SOMETHING IS WRONG: beyond {LIMIT:g} units, or not what IEEE 754 says")
    return {"kind": "math", "limit": LIMIT, "passed": passed,
            "functions": [{key: value for key, value in asdict(each).items() if key[0] != "_"} for each in found]}


def line(found: Accuracy) -> str:
    """A row of the table."""
    places = ", ".join(f"{value:.9g}" for value in (found.wrong_at if found.wrong else found.at))
    return (f"{found.function:<10}  {found.dtype:<7}  {found.checked:>13,}  {found.worst:>6.3f}  "
            f"{100 * found.rounded:>6.2f}%  {found.wrong:>5}  {found.seconds:>4.0f} s  {places}")


def check_float32(name: str, samples: int = EVERY) -> Accuracy:
    """Against float64: all inputs, or so many of them; of two operands, a sample."""
    found = Accuracy(name, "float32")
    call, reference = compiled(name, "float32"), float64_reference(name)
    begun = time.perf_counter()
    for operands in pairs(name, "float32", min(samples, 2**24)) if name in BINARY else patterns(samples):
        got = call(*operands)
        with np.errstate(all="ignore"):
            errors, wrong = units(got, reference(*(each.astype(np.float64) for each in operands)))
        found.add(operands, errors, wrong)
    found.seconds = time.perf_counter() - begun
    return found


def patterns(samples: int) -> Iterator[tuple[Array]]:
    """Chunks of float32: all patterns of bits, or every so manieth."""
    step = max(1, EVERY // samples) | 1 if samples < EVERY else 1
    for start in range(0, EVERY, CHUNK * step):
        bits = np.arange(start, min(start + CHUNK * step, EVERY), step, dtype=np.uint64)
        yield (bits.astype(np.uint32).view(np.float32),)


def units(got: Array, want: Array) -> tuple[Array, Array | None]:
    """(errors, wrong) of float32 results beside float64 references; None where all are right in kind."""
    largest = np.finfo(np.float32).max
    nearest = np.minimum(np.abs(want).astype(np.float32), largest)
    unit = (np.maximum(nearest, np.float32(2.0**-126)).view(np.int32) & 0x7F80_0000).view(np.float32)
    errors: Array = got - want
    np.abs(errors, out=errors)
    errors /= unit
    errors *= 2.0**23
    if np.isfinite(errors.max()) and got.all():
        return errors, None
    limit = 2.0**128
    exact = np.clip(got.astype(np.float64), -limit, limit) - np.clip(want, -limit, limit)
    errors = np.nan_to_num(np.abs(exact) / unit * 2.0**23, nan=0.0)
    zeros = (got == 0) & (np.signbit(got) != np.signbit(want)) & ~np.isnan(want)
    return errors, zeros | (np.isnan(got) != np.isnan(want))


def compiled(name: str, dtype: str) -> Callable[..., Array]:
    """The function over arrays, as users get it."""
    import staticgraph as sg

    operands = [sg.placeholder(letter, (None,) if name in UNARY else ("n",), dtype)
                for letter in ("x" if name in UNARY else "xy")]
    executable = sg.compile(operands, getattr(sg, name)(*operands))
    return lambda *arrays: np.asarray(executable(*arrays))


def float64_reference(name: str) -> Callable[..., Array]:
    """The function in float64, by other means than ours."""
    if name in ("erf", "erfc"):
        return _from_libm(name)
    own: dict[str, Callable[..., Array]] = {
        "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)), "softplus": lambda x: np.logaddexp(x, 0.0),
        "reciprocal": lambda x: 1.0 / x}
    found: Callable[..., Array] = own.get(name) or getattr(np, NUMPY_NAMES.get(name, name))
    return found


@cache
def _from_libm(name: str) -> Callable[..., Array]:
    """A function of the C library over arrays of float64, which NumPy does not have."""
    import numba

    function = getattr(math, name)
    found: Callable[..., Array] = numba.vectorize(["float64(float64)"])(lambda x: function(x))
    return found


# Samples against mpmath.


def check_float64(name: str, samples: int = FLOAT64_SAMPLES) -> Accuracy:
    """Of so many samples, against mpmath."""
    found = Accuracy(name, "float64")
    call, begun = compiled(name, "float64"), time.perf_counter()
    for operands in pairs(name, "float64", samples) if name in BINARY else arguments(name, samples):
        results = [exact_error(name, float(got), [float(each) for each in row])
                   for got, *row in zip(call(*operands), *operands, strict=True)]
        errors = np.array([0.0 if each is None else each for each in results])
        found.add(operands, errors, np.array([each is None for each in results]))
    found.seconds = time.perf_counter() - begun
    return found


def arguments(name: str, samples: int) -> Iterator[tuple[Array]]:
    """float64 of all sizes, half of them where functions have their features."""
    random = np.random.default_rng(0)
    anything = random.integers(0, 2**64, samples // 2, dtype=np.uint64).view(np.float64)
    part = samples // 8
    special = [random.uniform(-3, 3, part), random.uniform(0.5, 2, part), random.uniform(-745, 710, part),
               random.uniform(-1, 1, part) * 10.0 ** random.uniform(-10, 8, part)]
    x = np.concatenate([anything, *special])
    yield (x[np.isfinite(x) & ((np.abs(x) < LARGEST_GROWING) | (name not in GROWING))],)


def pairs(name: str, dtype: str, samples: int) -> Iterator[tuple[Array, Array]]:
    """Operands of functions of two."""
    random = np.random.default_rng(0)
    spread = 80.0 if dtype == "float32" else 600.0
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        if name == "pow":
            x = np.exp(random.uniform(-1, 1, count) * 10.0 ** random.uniform(-6, 1.5, count)).astype(dtype)
            y = random.uniform(-1, 1, count) * spread / np.log(np.where(x == 1, 2, x).astype(np.float64))
        else:
            x, y = random.standard_normal((2, count)) * np.exp(random.uniform(-spread, spread, count) / 2)
            y = y * 10.0 ** random.uniform(-3, 3, count)
        yield x.astype(dtype), y.astype(dtype)


def exact_error(name: str, got: float, operands: Sequence[float]) -> float | None:
    """Units in the last place between a result and what mpmath says; None if it is wrong in kind."""
    import mpmath

    with mpmath.workprec(300):
        try:
            exact = mpmath_reference(name)(*(mpmath.mpf(each) for each in operands))
        except (ValueError, ZeroDivisionError):
            return 0.0 if not math.isfinite(got) else None
        if isinstance(exact, mpmath.mpc) or mpmath.isnan(exact):
            return 0.0 if math.isnan(got) else None
        if math.isnan(got) or (got == 0 and exact != 0 and math.copysign(1.0, got) != mpmath.sign(exact)):
            return None
        limit = mpmath.mpf(2) ** 1024
        value = min(max(mpmath.mpf(got), -limit), limit)
        exact = min(max(exact, -limit), limit)
        largest = float(np.finfo(np.float64).max)
        return float(abs(value - exact) / mpmath.mpf(math.ulp(min(float(abs(exact)), largest))))


@cache
def mpmath_reference(name: str) -> Reference:
    """The function on numbers of mpmath."""
    import mpmath

    own: dict[str, Reference] = {
        "exp2": lambda x: mpmath.power(2, x), "log2": lambda x: mpmath.log(x) / mpmath.log(2),
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
        "reciprocal": lambda x: 1 / x, "pow": mpmath.power}
    found: Reference = own.get(name) or getattr(mpmath, name)
    return found
