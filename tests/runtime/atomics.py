"""A load that sees what other threads store, for kernels of tests."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def load_acquire(context: Any, pointer: Any) -> Any:
    """The int64 that a pointer points to, read anew each time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.bitcast(arguments[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.int64(pointer), generate
