"""Everything that the page shows of one subject, as plain data.

Comes in: a tensor or several, an Executable or a Compilation. Goes out: a dict of texts, numbers and lists that is
written into the page as JSON: the graph at each stage with the places of its marks, kernels with their sources,
buffers, the user's lines, and the rewrite history where the definition is known. The same subject gives the same data
in every process: nothing here was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...compiler.program import NodeRecord, Program, Step
from ..display import display
from ..marks import Arrow, Mark
from ..memory import memory_plan, render_memory_svg
from ..model import Model, collect
from ..scene import Scene, arrange
from ..subject import Subject
from .columns import Texts
from .lines import places, source_lines
from .past import past_data, positions_of

NODE = ("op", "kind", "type", "name", "scope", "lines", "detail", "inputs", "steps", "kernel", "part", "partners",
        "flops", "bytes", "past", "buffer")
MARK = ("role", "label", "detail", "node", "kernel", "part", "x", "y", "width", "height")
SHOWN_STAGES = {"tensor": "as it was built", "primitive": "after all passes", "fused": "with its fused kernels",
                "program": "kernel calls and buffers"}


def subject_data(found: Subject) -> dict[str, Any]:
    """All of it; see the module docstring."""
    texts = Texts()
    models = {stage: collect(found.subject, stage) for stage in found.stages()}
    past = past_data(found.history, models, texts) if found.history is not None else None
    stages = [stage_data(model, texts, positions_of(found.history, model)) for model in models.values()]
    program = program_data(found, texts)
    options = sorted(found.options.items())
    known = places(found.roots)
    return {"stages": stages, "program": program, "past": past, "options": options, "remarks": found.remarks,
            "columns": {"node": NODE, "mark": MARK},
            "sources": source_lines(texts.all_lines(), known), **texts.data()}


def stage_data(model: Model, texts: Texts, past: Sequence[int] = ()) -> dict[str, Any]:
    """One stage: its nodes, what is drawn of them, and where a drawing of everything has it."""
    shown = display(model)
    nodes = [node_row(node, number, model, texts, past) for number, node in enumerate(model.nodes)]
    return {"name": model.stage, "what": SHOWN_STAGES.get(model.stage, ""), "nodes": nodes,
            "outputs": model.outputs, "updates": model.updates, "kernels": list(shown.kernels),
            "arrows": [_arrow(arrow, texts) for arrow in shown.arrows],
            **scene_data(arrange(shown), len(shown.marks), texts)}


def scene_data(scene: Scene, base: int, texts: Texts) -> dict[str, Any]:
    """Marks in their places, `base` of which are not there for the drawing's sake alone; kernels; paths."""
    marks = [_mark(mark, texts) + [_n(box.x), _n(box.y), _n(box.width), _n(box.height)]
             for mark, box in zip(scene.display.marks, scene.marks, strict=True)]
    boxes = [[kernel, _n(box.x), _n(box.y), _n(box.width), _n(box.height)]
             for kernel, box in sorted(scene.kernels.items())]
    paths = [[path.source, path.target, path.order, int(bool(path.folded)),
              [_n(value) for point in path.points for value in point]] for path in scene.paths]
    return {"marks": marks, "base": base, "boxes": boxes, "paths": paths,
            "size": [_n(scene.width), _n(scene.height)]}


def node_row(node: NodeRecord, number: int, model: Model, texts: Texts, past: Sequence[int] = ()) -> list[Any]:
    """A node under the columns `NODE`."""
    return [texts(node.op), texts(node.kind), texts(node.type), texts(node.name), texts(node.scope),
            texts.lines(node.lines), texts(node.detail), node.inputs, node.steps, model.kernel_of[number],
            texts(model.parts[number]), node.partner, texts(node.flops), texts(node.bytes_moved),
            past[number] if past else -1, model.facts[number].get("buffer", -1) if model.facts else -1]


def _mark(mark: Mark, texts: Texts) -> list[Any]:
    return [texts(mark.role), texts(mark.label), texts(mark.detail), mark.node, mark.kernel, texts(mark.part)]


def _arrow(arrow: Arrow, texts: Texts) -> list[Any]:
    return [arrow.source, arrow.target, arrow.order, [texts(view) for view in arrow.folded]]


def _n(value: float) -> int:
    return round(value)


def program_data(found: Subject, texts: Texts) -> dict[str, Any] | None:
    """Kernels with their sources, steps, buffers; nothing where the graph could not be compiled."""
    program = found.program
    if program is None:
        return None
    planned = memory_plan(found.subject).buffers
    return {
        "device": program.device, "arena": str(program.arena_bytes),
        "kernels": [{"name": kernel.name, "text": kernel.text.strip(), "library": kernel.library,
                     "launch": f"{kernel.launch.threads} threads a block, {kernel.launch.items} iterations each block"
                     if kernel.launch else ""} for kernel in program.kernels],
        "steps": [step_data(program, step, texts) for step in program.steps],
        "boundaries": [[each.first, each.second, each.value, each.line, each.reason, each.rows]
                       for each in program.boundaries],
        "chains": [[chain.first, chain.count, str(chain.rows)] for chain in program.chains],
        "buffers": [{"name": planned[number].name, "type": planned[number].type, "place": buffer.place,
                     "role": planned[number].role, "offset": str(buffer.offset), "bytes": str(buffer.nbytes),
                     "lines": texts.lines(planned[number].lines), "steps": planned[number].touched}
                    for number, buffer in enumerate(program.buffers)]}


def step_data(program: Program, step: Step, texts: Texts) -> dict[str, Any]:
    """One call of a kernel."""
    note = program.notes[step.note]
    return {"kernel": step.kernel, "extent": str(step.extent), "commit": step.stage == "commit", "title": note.title,
            "names": list(note.nodes), "lines": texts.lines(note.lines), "flops": str(note.flops),
            "bytes": str(note.bytes_moved), "reads": step.reads, "writes": step.writes}


def memory_figure(found: Subject) -> str:
    """The picture of the memory plan, for sizes that somebody has said or 64; its colours follow the page."""
    return "" if found.program is None else render_memory_svg(memory_plan(found.subject), "auto")
