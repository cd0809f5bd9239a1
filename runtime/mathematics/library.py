"""The functions that all kernel languages share, by name."""

from __future__ import annotations

from typing import Any

from . import error_function, integer_math, operators, philox, power, trigonometry, vector_math

FUNCTIONS: dict[str, Any] = {
    **operators.FUNCTIONS, **integer_math.FUNCTIONS,
    **vector_math.FUNCTIONS, **trigonometry.FUNCTIONS, **error_function.FUNCTIONS, **power.FUNCTIONS,
    **philox.FUNCTIONS,
}
