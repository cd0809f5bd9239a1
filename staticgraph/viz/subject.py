"""What there is to know of one subject: its program, its graph, its options, its history.

Comes in: whatever `export` takes. Goes out: a `Subject`, for those who show more than one stage of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..compiler.history import History
from ..compiler.pipeline import Compilation
from ..compiler.program import Program
from ..errors import StaticGraphError
from ..tensor import Tensor
from .model import STAGES, collect


@dataclass
class Subject:
    """What there is to show. `program` is None where the graph could not be compiled: `remarks` say why."""

    subject: Any
    program: Program | None
    roots: list[Tensor]
    options: dict[str, str]
    history: History | None = None
    remarks: list[str] = field(default_factory=list)

    def stages(self) -> list[str]:
        """The stages that can be shown."""
        return [stage for stage in STAGES if self.program is not None or stage == "tensor"]


def find_subject(obj: Any) -> Subject:
    """Resolve what `export` takes. Tensors are compiled: the page shows all stages."""
    definition = getattr(obj, "definition", None)
    if isinstance(obj, Compilation):
        return _with_history(Subject(obj, obj.program, [*obj.outputs, *obj.updates.values()], _texts(obj.options)))
    if definition is not None:
        from ..api import flatten_outputs

        outputs, _ = flatten_outputs(definition.outputs)
        found = Subject(obj, obj.program, [*outputs, *definition.updates.values()], _texts(definition.options))
        return _with_history(found)
    program = obj if isinstance(obj, Program) else None if isinstance(obj, Tensor) else getattr(obj, "program", None)
    if isinstance(program, Program):
        return Subject(obj, program, [], {}, remarks=["This program was loaded without the graph that it was compiled "
                                                      "from: there is no history, and no text of lines."])
    return _compiled(obj)


def _compiled(obj: Any) -> Subject:
    """Tensors, compiled for the stages behind the first."""
    from ..api import compile_only, flatten_outputs
    from ..tensor import toposort

    collect(obj, "tensor")     # which says what is wrong with anything else
    outputs, _ = flatten_outputs(obj)
    inputs = [node for node in toposort(outputs) if node.op.name == "placeholder"]
    try:
        made = compile_only(inputs, obj)
    except StaticGraphError as error:
        remark = f"Only the graph as it was built: it cannot be compiled. {error}"
        return Subject(obj, None, outputs, {}, remarks=[remark])
    return _with_history(Subject(made, made.program, outputs, _texts(made.options)))


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    """Values as people wrote them; of a file or a function, which knows where it is in memory, only what it is."""
    plain = (bool, int, float, str, tuple, list, dict, type(None))
    return {name: str(value) if isinstance(value, plain) else type(value).__name__ for name, value in options.items()}


def _with_history(found: Subject) -> Subject:
    from .rewrites import history

    found.history = history(found.subject)
    return found
