"""The script of a whole program: what it is, what runs it, and how to call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from staticgraph.compiler.program import Program

from ..chains import block_of
from ..convert import Array
from .formulas import comment, literal
from .gather import Gatherer
from .kernel_files import kernel_file_name, rule, sections
from .plan_text import PlanText
from .sources import Target

HARNESS = "staticgraph.runtime.dump.main_script"
USES = {
    **{name: Target(HARNESS, name)
       for name in ("Program Plan Input Variable Result Buffer Step Chain Check Print divide remainder solve "
                    "main").split()},
    "At": Target("staticgraph.runtime.dump.kernel_script", "At"),
    "block_of": Target(block_of.__module__, block_of.__name__),
}
"""What the script's own text calls."""

OWN = ("INPUTS", "VARIABLES", "KERNELS", "PRINTS", "LOADED", "sizes_of", "plan", "pack", "load", "run", "state")
"""What the script's own text defines."""


def main_script(program: Program, version: str) -> str:
    """The text of main.py."""
    gatherer = Gatherer(OWN)
    for target in USES.values():
        gatherer.add(target)
    gatherer.import_name("pathlib", "Path")
    gathered = gatherer.text()
    names = {name: gathered.names[target] for name, target in USES.items()}
    plan = PlanText(program, names.__getitem__)
    parts = [*_header(program, version), "from __future__ import annotations\n", *gathered.imports,
             rule("The program: its sizes, its memory, its steps.") + "\n", *plan.sizes_of(), "", "", *plan.plan(),
             "", "", *_pack(program), *sections(gathered, lambda module: True, "What runs it, from"),
             rule("What goes in and out of it, and how to call it."), *_tables(program, names),
             _DOORS.format(**names)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _header(program: Program, version: str) -> list[str]:
    """Comments. The first two lines hold nothing of a user's: a comment there could name another encoding."""
    lines = [f"# A program that staticgraph {version} compiled.", "# Stands alone: python -I main.py", "#",
             "# Run as a script it checks itself against a recorded call, and times itself. As a module it has",
             "#     run(...)     a call: inputs by position or by name, as recorded or of other sizes",
             "#     state()      the variables, which calls update in place", "#"]
    every: list[tuple[str, Any]] = [
        *(("input", each) for each in program.inputs), *(("variable", each) for each in program.variables),
        *(("output", each) for each in program.outputs)]
    lines += [f"# {title} {comment(each.name)}: {each.dtype}[{comment(', '.join(map(str, each.shape)))}]"
              for title, each in every]
    return [*lines, ""]


def _tables(program: Program, names: Mapping[str, str]) -> list[str]:
    """Inputs, variables, kernels and prints, as tuples at the top of the script."""
    tables = {
        "INPUTS": [f"{names['Input']}({literal(each.name)}, {literal(each.dtype)}, {len(each.shape)}, "
                   f"{literal(', '.join(map(str, each.shape)))})" for each in program.inputs],
        "VARIABLES": [f"{names['Variable']}({literal(each.name)}, {literal(each.dtype)}, "
                      f"{literal(tuple(map(int, each.shape)))}, {each.written})" for each in program.variables],
        "KERNELS": [literal(f"kernels/{kernel_file_name(program, number)}.py")
                    for number in range(len(program.kernels))],
        "PRINTS": [f"{names['Print']}({literal(each.label)}, {literal(each.location)}, {each.every}, "
                   f"{each.edgeitems})" for each in program.prints],
    }
    return [line for title, rows in tables.items()
            for line in ([f"{title} = (", *(f"    {row}," for row in rows), ")"] if rows else [f"{title} = ()"])]


def _pack(program: Program) -> list[str]:
    kind, *rest = program.structure
    value = {"tensor": "results[0]", "list": "results", "tuple": "tuple(results)"}.get(kind)
    if value is None:
        value = f"dict(zip({literal(tuple(rest[0]))}, results))"
    return ["def pack(results):", '    """Results in the structure that was compiled."""', f"    return {value}"]


_DOORS = '''LOADED = []


def load():
    """The program, loaded once: kernels compiled, state and constants read."""
    if not LOADED:
        LOADED.append({Program}(
            Path(__file__).resolve().parent, KERNELS, INPUTS, VARIABLES, PRINTS, sizes_of, plan, pack))
    return LOADED[0]


def run(*args, **inputs):
    """A call of the program; its state goes on."""
    return load().run(args, inputs)


def state():
    """The variables' values as (name, array), in order; writing into an array sets a variable."""
    return [(spec.name, array) for spec, array in zip(VARIABLES, load().state)]


if __name__ == "__main__":
    {main}(load)'''


def arrays_by_number(arrays: Iterable[Array]) -> dict[str, Array]:
    """Names for the arrays of a file, in order."""
    return {f"array{number}": array for number, array in enumerate(arrays)}
