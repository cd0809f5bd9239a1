"""Neural networks: functions, layers, losses and initial values. Parameters are `sg.variable`s; nothing runs here."""

from . import initialisers
from .functional import *
from .layers import *
