"""Optimizers: updates of parameters as graph, for ``sg.compile(..., updates=optimizer.updates(loss, parameters))``."""

from .optimizers import *
from .schedules import *
