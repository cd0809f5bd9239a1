"""staticgraph: define a symbolic graph, differentiate it, compile it, run it.

>>> import staticgraph as sg
>>> x = sg.placeholder("x", shape=("batch", 64))
"""

from __future__ import annotations

from .autodiff import grad, hessian, jacobian, jvp, stabilise, vjp
from .errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    OutOfRangeError,
    ShapeError,
    StaticGraphError,
    UnsupportedError,
    VerificationError,
)
from .formatting import format_graph
from .interpreter import evaluate
from .location import Location, name_scope
from .ops import *
from .tensor import Tensor
from .types import Dim
