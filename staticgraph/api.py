"""compile(): the one place where the language meets the compiler and the runtime."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import tensor as tensor_
from .errors import ArgumentError, DeviceError, DTypeError, ShapeError, message
from .formatting import format_graph
from .op import as_tensor
from .ops.random import counters
from .printing import is_sink
from .tensor import Tensor, VariableState, describe_line, operand_row, toposort
from .types import provably_different
from .watching import rewritten

if TYPE_CHECKING:
    from .compiler.pipeline import Compilation
    from .compiler.program import Program
    from .compiler.target import Target
    from .runtime.cuda.exchange import DeviceArray
    from .runtime.devices import DeviceInfo
    from .runtime.executable import Executable
    from .runtime.reports import Finding

__all__ = ["DeviceArray", "DeviceInfo", "Executable", "compile", "compile_only", "devices"]

MOST_THREADS = 256


def __getattr__(name: str) -> Any:
    # Not imported above: what runs programs is only loaded when it is needed.
    if name == "Executable":
        from .runtime.executable import Executable
        return Executable
    if name == "DeviceInfo":
        from .runtime.devices import DeviceInfo
        return DeviceInfo
    if name == "DeviceArray":
        from .runtime.cuda.exchange import DeviceArray
        return DeviceArray
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def compile(inputs: Sequence[Tensor] | Tensor, outputs: Any = (), *, updates: Any = None, device: str = "cpu",
            options: Mapping[str, Any] | None = None) -> Executable:
    """Compile a graph into an `Executable`.

    inputs: placeholders, in the order of the call's arguments (they may go unused).
    outputs: a tensor, a list or tuple of tensors, or a dict; calls return NumPy arrays in the same structure.
    updates: a mapping {variable: new value} or a list of such pairs. All read the old state, outputs see the old state,
    and all are written together after everything that can fail. A new value has its variable's shape and dtype. The
    counter of each generator that is sampled from goes up by 1, unless an update names it.
    device: "cpu", "cuda" or "cuda:1" (see `devices`). On a GPU variables stay there between calls, and inputs may be
    arrays of other libraries that are on it.
    options: {"stabilise": False} compiles the formulas as written; {"results": "device"} leaves the results of a GPU on
    it, as arrays for torch, cupy, jax and others; {"tf32": True} lets a GPU round the factors of float32 products to 10
    bits of mantissa, which is faster; {"threads": 1} says how many threads of the CPU a call may use, instead of
    STATICGRAPH_NUM_THREADS and the machine; {"memory_budget": 10**8} keeps arena and outputs within so many bytes by
    doing some of the work twice, with {"sizes": {"batch": 64}} where dimensions are symbolic (`explain()` tells what);
    {"check": "nan"} finds the first nan, "inf" the first infinity too, and raises `NonFiniteError` for the op that made
    it; {"print_to": file or function} takes what `debug_print` writes.

    Raises ArgumentError for inputs that are no placeholders or share a name, for a variable updated twice, for needed
    placeholders that are not inputs; DTypeError and ShapeError for updates that do not fit; DeviceError for a device
    that is not there.
    """
    from .runtime.executable import load

    kind, index = parse_device(device)
    checked = check_options(options)
    if checked["results"] == "device" and kind == "cpu":
        raise ArgumentError("compile: option 'results' is 'device' on CUDA only; on the CPU results are NumPy arrays")
    if checked["threads"] and kind != "cpu":
        raise ArgumentError("compile: option 'threads' is for the CPU; a GPU's kernels have threads of their own")
    flat, structure = flatten_outputs(outputs)
    request = _Request(check_inputs(inputs), flat, advancing(flat, check_updates(updates)), _target(kind, index),
                       checked, structure)
    program, variables, account = _recall_or_compile(request)
    definition = Definition(tuple(request.inputs), outputs, request.updates, device, checked)
    storages = [node._state for node in variables]
    executable = load(program, [state for state in storages if isinstance(state, VariableState)], index,
                      checked["results"], checked["threads"])
    executable.account = account
    executable.definition = definition
    executable.explain_finding = definition.explain_finding
    executable.print_to = checked["print_to"]
    executable.display_hook = tensor_.display_hook
    return executable


class Definition(NamedTuple):
    """What an executable was compiled from, checked: it holds the graph alive, so that passes can be shown at work and
    results compared with the interpreter's at any later time. `outputs` is in the structure that was given."""

    inputs: tuple[Tensor, ...]
    outputs: Any
    updates: Mapping[Tensor, Tensor]
    device: str
    options: Mapping[str, Any]

    def compilation(self) -> Compilation:
        """All passes run once more, up to the Program; nothing is loaded."""
        return compile_only(self.inputs, self.outputs, updates=self.updates, device=self.device, options=self.options)

    def prepare(self) -> Compilation:
        """The same before any pass has run."""
        return prepare(self.inputs, self.outputs, updates=self.updates, device=self.device, options=self.options)

    def explain_finding(self, finding: Finding, inputs: Sequence[Any]) -> Exception | None:
        """The error for what a kernel has found in a call with these inputs, before it has changed anything."""
        from .blame import finding_error, rewritten_from
        from .compiler.record import output_names

        flat, structure = flatten_outputs(self.outputs)
        watched, before, after = rewritten(flat, self.updates, output_names(flat, structure), self.options)
        feed = dict(zip(self.inputs, inputs, strict=True))
        return finding_error(watched[finding.guard], finding.place, feed,
                             lambda node: rewritten_from(node, before, after))

    def write(self, folder: Path) -> dict[str, str]:
        """The graph, and what each pass of the compiler made of it, as files in a folder; gives what each is."""
        passes = folder / "passes"
        passes.mkdir()
        compilation = _run(self.prepare(), str(passes))
        for path in passes.glob("k_*.py"):     # a dump has them as scripts
            path.unlink()
        text = format_graph([*flatten_outputs(self.outputs)[0], *self.updates.values()])
        (folder / "graph.txt").write_text(text.rstrip("\n") + "\n", encoding="utf-8", errors="backslashreplace")
        return {**LEVELS, **(draw(compilation, folder) if draw is not None else {})}


LEVELS = {
    "graph.txt": "the graph as it was built, with the lines that it came from",
    "passes/NN_name.txt": "the graph after each pass, and which rules were applied where",
    "passes/schedule.txt": "which nodes became which kernel",
    "passes/kernels.ir.txt": "the kernels in the compiler's own language",
    "passes/program.txt": "the steps in order, the buffers and their places",
}
"""What `Definition.write` writes."""

draw: Callable[[Compilation, Path], dict[str, str]] | None = None
"""Draws a compilation into files of a folder and says what each is; the roof's, registered by the facade."""


class _Request(NamedTuple):
    """What the compiler is given, checked."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    updates: dict[Tensor, Tensor]
    target: Target
    options: dict[str, Any]
    structure: tuple[Any, ...]


def _recall_or_compile(request: _Request) -> tuple[Program, Sequence[Tensor], str]:
    """The program, its variables, and where it came from: one that was compiled before for this very graph is read back
    from the cache, without any pass of the compiler; another is compiled and kept."""
    from .compiler import graph_key, program_text
    from .compiler.record import output_names
    from .runtime import cache

    start, store, reason = time.perf_counter(), cache.current(), _why_not_recalled()
    key = None
    if not reason:
        try:
            key = graph_key.graph_key(request.inputs, request.outputs, request.updates, request.target, request.options,
                                      output_names(request.outputs, request.structure), request.structure[0])
            text, content = store.read_program(key.digest)
            program, numbers = program_text.read(text, content, key.lines, request.structure)
            if len(numbers) != len(program.variables) or min(numbers, default=0) < 0:
                raise program_text.Unreadable("its variables are not those of the program")
            variables = [key.variables[number] for number in numbers]
            return program, variables, f"from the cache in {(time.perf_counter() - start) * 1e3:.1f} ms"
        except (cache.CacheMiss, graph_key.Unkeyed, program_text.Unreadable, IndexError) as miss:
            reason = str(miss)
    compilation = _run(_new(request))
    assert compilation.program is not None
    account = f"compiled in {(time.perf_counter() - start) * 1e3:.1f} ms, because: {reason}"
    if key is not None:
        numbers = [next(number for number, node in enumerate(key.variables) if node is variable)
                   for variable in compilation.variables]
        try:
            kept = store.write_program(key.digest, *program_text.write(compilation.program, key.lines, numbers))
        except program_text.Unwritable as error:
            kept = f"not kept: {error}"
        account += f"; {kept}" if kept and kept != reason else ""
    return compilation.program, compilation.variables, account


def _why_not_recalled() -> str:
    """Who wants to see the passes at work wants them to run."""
    names = ("STATICGRAPH_VERIFY", "STATICGRAPH_DEBUG", "STATICGRAPH_DUMP")
    return next((f"{name} is set" for name in names if os.environ.get(name, "0") not in ("", "0")), "")


def compile_only(inputs: Sequence[Tensor] | Tensor, outputs: Any = (), *, updates: Any = None, device: str = "cpu",
                 options: Mapping[str, Any] | None = None) -> Compilation:
    """Run the compiler and stop before anything is loaded: graphs by pass, schedule and Program, for looking at. For
    device "cuda" neither a GPU nor a driver is needed: the target is an H200."""
    return _run(prepare(inputs, outputs, updates=updates, device=device, options=options))


def prepare(inputs: Sequence[Tensor] | Tensor, outputs: Any = (), *, updates: Any = None, device: str = "cpu",
            options: Mapping[str, Any] | None = None) -> Compilation:
    """A checked compilation of which no pass has run, for the same targets as `compile_only`."""
    from .runtime.cuda.device import cuda_target

    kind, _ = parse_device(device)
    target = cuda_target() if kind == "cuda" else _target(kind, 0)
    flat, structure = flatten_outputs(outputs)
    return _new(_Request(check_inputs(inputs), flat, advancing(flat, check_updates(updates)), target,
                         check_options(options), structure))


def _new(request: _Request) -> Compilation:
    # Not imported above: what comes from the cache needs no pass.
    from .compiler.pipeline import Compilation

    return Compilation(*request)


def _run(compilation: Compilation, folder: str = "") -> Compilation:
    from .compiler.pipeline import compile_graph

    compile_graph(compilation, folder)
    return compilation


def devices() -> list[DeviceInfo]:
    """What programs can be compiled for and run on: the CPU, then the GPUs that CUDA can use, if any. Never fails."""
    from .runtime.devices import devices as find

    return find()


def parse_device(device: str) -> tuple[str, int]:
    """"cpu", "cuda" or "cuda:1" as its kind and number."""
    kind, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise DeviceError(f"compile: there is no device {device!r}; devices are 'cpu', 'cuda' and 'cuda:1' and so on")
    return kind, int(number or 0)


def _target(kind: str, index: int) -> Target:
    """What this machine has."""
    if kind == "cpu":
        from .runtime.cpu.host import host_target

        return host_target()
    from .runtime.cuda.device import find_device

    try:
        return find_device(index).target()
    except DeviceError as error:
        raise DeviceError(f"compile: device 'cuda' cannot be used: {error}") from None


def flatten_outputs(outputs: Any) -> tuple[list[Tensor], tuple[Any, ...]]:
    """The outputs as a list, and how to give them back."""
    if isinstance(outputs, Mapping):
        return [_output(each) for each in outputs.values()], ("dict", tuple(outputs))
    if isinstance(outputs, list | tuple):
        kind = "list" if isinstance(outputs, list) else "tuple"
        return [_output(each) for each in outputs], (kind, len(outputs))
    return [_output(outputs)], ("tensor",)


def _output(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ArgumentError(f"compile: outputs must be tensors, got {type(value).__name__}")
    return value


def check_inputs(inputs: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """The inputs as a list of different placeholders with different names."""
    if not isinstance(inputs, Iterable):
        raise ArgumentError(f"compile: inputs are a list of placeholders, got {type(inputs).__name__}")
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    names: dict[str, Tensor] = {}
    for node in listed:
        if not isinstance(node, Tensor) or node.op.name != "placeholder":
            what = describe_line(node) if isinstance(node, Tensor) else type(node).__name__
            raise ArgumentError(f"compile: inputs must be placeholders, got\n  {what}")
        name = node.name or ""
        if name in names:
            raise ArgumentError(message(f"compile: two inputs are called '{name}'",
                                        [operand_row("first", names[name]), operand_row("second", node)]))
        names[name] = node
    return listed


def check_updates(updates: Any) -> dict[Tensor, Tensor]:
    """Updates as {variable: value}, each of its variable's dtype and shape."""
    what = "compile: updates are a mapping or a list of (variable, new value) pairs"
    if isinstance(updates, Tensor | str) or not isinstance(updates, Iterable | None):
        raise ArgumentError(f"{what}, got {type(updates).__name__}")
    pairs = list(updates.items()) if isinstance(updates, Mapping) else list(updates or ())
    checked: dict[Tensor, Tensor] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ArgumentError(what)
        variable, value = pair
        if not isinstance(variable, Tensor) or variable.op.name != "variable":
            what = describe_line(variable) if isinstance(variable, Tensor) else type(variable).__name__
            raise ArgumentError(f"compile: only variables can be updated, got\n  {what}")
        if variable in checked:
            raise ArgumentError(f"compile: variable '{variable.name}' is updated twice\n  {describe_line(variable)}")
        checked[variable] = _checked_update(variable, _as_update(variable, value))
    return checked


def advancing(outputs: Sequence[Tensor], updates: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """The updates, and one step for the counter of each generator that is sampled from and has no update of its own."""
    found = counters(toposort([*outputs, *updates.values()]))
    return {**updates, **{counter: counter + 1 for counter in found if counter not in updates}}


def _as_update(variable: Tensor, value: Any) -> Tensor:
    """The new value as a tensor; Python numbers and lists of them take the variable's dtype where its kind allows."""
    given = as_tensor(value)
    weak = isinstance(value, bool | int | float | list | tuple) and not isinstance(value, np.generic)
    if weak and "biuf".index(given.dtype.kind) <= "biuf".index(variable.dtype.kind.replace("i", "u")):
        return as_tensor(value, variable.dtype)
    return given


def _checked_update(variable: Tensor, value: Tensor) -> Tensor:
    rows = [operand_row("variable", variable), operand_row("update", value)]
    if value.dtype != variable.dtype:
        raise DTypeError(message(f"compile: the update of variable '{variable.name}' has another dtype", rows,
                                 f"use sg.astype(update, \"{variable.dtype}\")"))
    same = value.ndim == variable.ndim and not any(
        provably_different(a, b) for a, b in zip(value.shape, variable.shape, strict=True))
    if not same or any(not isinstance(size, int) for size in value.shape):
        raise ShapeError(message(f"compile: the update of variable '{variable.name}' has another shape", rows))
    return value


def check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Known options with their defaults filled in."""
    from .compiler.options import OPTIONS

    if not isinstance(options, Mapping | None):
        raise ArgumentError(f"compile: options are a mapping of names to values, got {type(options).__name__}")
    given = dict(options or {})
    for name, value in given.items():
        if name not in OPTIONS:
            raise ArgumentError(f"compile: there is no option '{name}'; options are {', '.join(sorted(OPTIONS))}")
        if name == "print_to":
            if not is_sink(value):
                raise ArgumentError(f"compile: option 'print_to' is a file or a function of a text, got {value!r}")
        elif type(value) is not type(OPTIONS[name]):
            raise ArgumentError(f"compile: option '{name}' is a {type(OPTIONS[name]).__name__}, got {value!r}")
    if given.get("check", "") not in ("", "nan", "inf"):
        raise ArgumentError(f"compile: option 'check' is 'nan', 'inf' (nan too) or '', got {given['check']!r}")
    if given.get("results", "host") not in ("host", "device"):
        raise ArgumentError(f"compile: option 'results' is 'host' or 'device', got {given['results']!r}")
    if not 0 <= given.get("threads", 0) <= MOST_THREADS:
        raise ArgumentError(f"compile: option 'threads' is a number up to {MOST_THREADS} (0: as the machine has), "
                            f"got {given['threads']}")
    if given.get("memory_budget", 0) < 0:
        raise ArgumentError(f"compile: option 'memory_budget' is a number of bytes, got {given['memory_budget']!r}")
    for name, value in given.get("sizes", {}).items():
        if not isinstance(name, str) or type(value) is not int or value < 1:
            raise ArgumentError("compile: option 'sizes' maps names of dimensions to positive ints, "
                                f"got {name!r}: {value!r}")
    return {**OPTIONS, **given}
