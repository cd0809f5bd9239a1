"""compile(): the one place where the language meets the compiler and the runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ArgumentError, DeviceError, DTypeError, ShapeError, message
from .op import as_tensor
from .ops.random import counters
from .tensor import Tensor, VariableState, describe_line, operand_row, toposort
from .types import provably_different

if TYPE_CHECKING:
    from .compiler.pipeline import Compilation
    from .runtime.executable import Executable

__all__ = ["Executable", "compile", "compile_only"]


def __getattr__(name: str) -> Any:
    if name == "Executable":  # not imported above, because it brings Numba
        from .runtime.executable import Executable
        return Executable
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def compile(inputs: Sequence[Tensor] | Tensor, outputs: Any = (), *, updates: Any = None, device: str = "cpu",
            options: Mapping[str, Any] | None = None) -> Executable:
    """Compile a graph into an `Executable`.

    inputs: placeholders, in the order of the call's arguments (they may go unused).
    outputs: a tensor, a list or tuple of tensors, or a dict; calls return NumPy arrays in the same structure.
    updates: a mapping {variable: new value} or a list of such pairs. All read the old state, outputs see the old state,
    and all are written together after everything that can fail. A new value has its variable's shape and dtype. The
    counter of each generator that is sampled from goes up by 1, unless an update names it.
    device: "cpu". options: {"stabilise": False} compiles the formulas as written.

    Raises ArgumentError for inputs that are no placeholders or share a name, for a variable updated twice, for needed
    placeholders that are not inputs; DTypeError and ShapeError for updates that do not fit; DeviceError for a device
    that is not there.
    """
    from .runtime.executable import load

    compilation = compile_only(inputs, outputs, updates=updates, device=device, options=options)
    assert compilation.program is not None
    storages = [node._state for node in compilation.variables]
    return load(compilation.program, [state for state in storages if isinstance(state, VariableState)])


def compile_only(inputs: Sequence[Tensor] | Tensor, outputs: Any = (), *, updates: Any = None, device: str = "cpu",
                 options: Mapping[str, Any] | None = None) -> Compilation:
    """Run the compiler and stop before anything is loaded: graphs by pass, schedule and Program, for looking at."""
    from .compiler.pipeline import Compilation, compile_graph
    from .runtime.cpu.host import host_target

    if device not in ("cpu", "cuda"):
        raise DeviceError(f"compile: there is no device '{device}'; devices are 'cpu' and 'cuda'")
    if device == "cuda":
        raise DeviceError("compile: device 'cuda' cannot be used: the CUDA backend is not part of this version; "
                          "use device='cpu'")
    flat, structure = flatten_outputs(outputs)
    compilation = Compilation(check_inputs(inputs), flat, advancing(flat, check_updates(updates)), host_target(),
                              check_options(options), structure)
    compile_graph(compilation)
    return compilation


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
    from .compiler.pipeline import OPTIONS

    if not isinstance(options, Mapping | None):
        raise ArgumentError(f"compile: options are a mapping of names to values, got {type(options).__name__}")
    given = dict(options or {})
    for name, value in given.items():
        if name not in OPTIONS:
            raise ArgumentError(f"compile: there is no option '{name}'; options are {', '.join(sorted(OPTIONS))}")
        if type(value) is not type(OPTIONS[name]):
            raise ArgumentError(f"compile: option '{name}' is a {type(OPTIONS[name]).__name__}, got {value!r}")
    return {**OPTIONS, **given}
