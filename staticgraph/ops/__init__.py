"""All ops, and the functions that users call.

Importing this package registers every op and gives tensors their operators and methods.
"""

from __future__ import annotations

from .. import tensor as _tensor
from . import composite, convolution, custom, debug, elementwise, leaf, pooling, reduction, scan
from .arrange import (
    flatten,
    flip,
    matrix_transpose,
    moveaxis,
    repeat,
    roll,
    split,
    stack,
    swapaxes,
    tile,
    transpose,
    unstack,
)
from .composite import *
from .contraction import dot, matmul, outer, tensordot, vecdot
from .convolution import *
from .custom import *
from .debug import *
from .elementwise import *
from .grid import broadcast_arrays, diagonal, diff, meshgrid, trace, tril, triu
from .indexing import argsort, one_hot, scatter_add, sort, take, take_along_axis, topk
from .leaf import *
from .movement import broadcast_to, concat, expand_dims, pad, permute_dims, reshape, squeeze
from .pooling import *
from .reduction import *
from .scan import *
from .subscript import getitem

concatenate = concat
ravel = flatten

# What `sg` offers of them; the rest is for the library.
__all__ = [
    "argsort", "broadcast_arrays", "broadcast_to", "concat", "concatenate", "diagonal", "diff", "dot",
    "expand_dims", "flatten", "flip", "matmul", "matrix_transpose", "meshgrid", "moveaxis", "one_hot", "outer",
    "pad", "permute_dims", "ravel", "repeat", "reshape", "roll", "scatter_add", "sort", "split", "squeeze", "stack",
    "swapaxes", "take", "take_along_axis", "tensordot", "tile", "topk", "trace", "transpose", "tril", "triu",
    "unstack", "vecdot",
]
__all__ += composite.__all__
__all__ += convolution.__all__
__all__ += custom.__all__
__all__ += debug.__all__
__all__ += elementwise.__all__
__all__ += leaf.__all__
__all__ += pooling.__all__
__all__ += reduction.__all__
__all__ += scan.__all__

_OPERATORS = (
    "abs", "add", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "divide", "equal", "floor_divide", "getitem", "greater", "greater_equal", "less", "less_equal",
    "matmul", "matrix_transpose", "multiply", "negative", "not_equal", "positive", "pow", "remainder", "subtract",
    "transpose",
)
_METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "cumprod", "cumsum", "diagonal", "dot", "flatten",
    "max", "mean", "min", "prod", "ravel", "repeat", "reshape", "round", "sort", "squeeze", "std", "sum", "swapaxes",
    "take", "trace", "transpose", "var",
)
_tensor.functions.update({name: globals()[name] for name in _OPERATORS})
_tensor.methods.update({name: globals()[name] for name in _METHODS})
