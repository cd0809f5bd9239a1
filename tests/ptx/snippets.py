"""Small PTX kernels from a few lines, for tests of single instructions and of the machine: no compiler is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import Counters, DeviceMemory, PtxModule
from .operands import DTYPES

Array = np.ndarray[Any, Any]
PREFIX = {"f32": "%f", "f64": "%d", "pred": "%p", **{f"{kind}{bits}": name for kind in "bus" for bits, name in (
    (8, "%h"), (16, "%h"), (32, "%r"), (64, "%q"))}}


def kernel(body: str, parameters: int = 1, shared: int = 0, name: str = "snippet") -> str:
    """PTX of a kernel with the parameters %a0, %a1, ... loaded, %r0 the thread and %r1 its number in the grid."""
    names = [f"{name}_param_{k}" for k in range(parameters)]
    array = f".shared .align 16 .b8 cells[{shared}];\n" if shared else ""
    loads = "\n".join(f"\tld.param.u64 %a{k}, [{parameter}];" for k, parameter in enumerate(names))
    signature = ",\n".join(f"\t.param .u64 {parameter}" for parameter in names)
    return f""".version 9.0
.target sm_90
.address_size 64
{array}
.visible .entry {name}(
{signature}
)
{{
	.reg .pred %p<20>;
	.reg .b16 %h<20>;
	.reg .b32 %r<40>;
	.reg .f32 %f<20>;
	.reg .b64 %q<40>;
	.reg .b64 %a<{parameters + 1}>;
	.reg .f64 %d<20>;

{loads}
	mov.u32 %r0, %tid.x;
	mov.u32 %r2, %ctaid.x;
	mov.u32 %r3, %ntid.x;
	mad.lo.s32 %r1, %r2, %r3, %r0;
	cvt.u64.u32 %q0, %r0;
	cvt.u64.u32 %q1, %r1;
{body}
	ret;
}}
"""


def run(body: str, arrays: Sequence[Array | int], grid: int = 1, block: int = 32, shared: int = 0,
        seed: int | None = None) -> tuple[list[Array], Counters]:
    """Run a snippet over copies of the arrays, and read them back."""
    memory = DeviceMemory()
    arguments = []
    for array in arrays:
        if isinstance(array, int):
            arguments.append(array)
            continue
        arguments.append(memory.allocate(array.nbytes))
        memory.write(arguments[-1], array)
    module = PtxModule(kernel(body, len(arrays), shared))
    counters = module.run("snippet", grid, block, arguments, memory, seed=seed)
    return [memory.read(address, array.dtype, array.shape) for address, array in zip(arguments, arrays)
            if not isinstance(array, int)], counters


def address(slot: int, nbytes: int, register: str = "%q2", index: str = "%q1") -> str:
    """`register` = parameter `slot` + index * nbytes."""
    return f"\tmad.lo.s64 {register}, {index}, {nbytes}, %a{slot};\n"


def evaluate(opcode: str, kinds: Sequence[str], result: str, *operands: Any) -> Array:
    """One instruction for each element: arrays are loaded, whole numbers are literals, predicates arrays of bool."""
    arrays = [np.ascontiguousarray(operand) for operand in operands if isinstance(operand, np.ndarray)]
    count = len(arrays[0])
    lines, names = [f"\tsetp.ge.u64 %p19, %q1, %a{len(arrays) + 1};", "\t@%p19 bra $END;"], []
    slot = 0
    for k, (kind, operand) in enumerate(zip(kinds, operands)):
        if not isinstance(operand, np.ndarray):
            names.append(str(operand))
            continue
        name = f"{PREFIX[kind]}{k + 4}"
        size = DTYPES[kind].itemsize
        lines.append(address(slot, size))
        if kind == "pred":
            lines += ["\tld.global.u8 %h19, [%q2];", f"\tsetp.ne.s16 {name}, %h19, 0;"]
        else:
            lines.append(f"\tld.global.{kind} {name}, [%q2];")
        names.append(name)
        slot += 1
    target = f"{PREFIX[result]}3"
    lines += [f"\t{opcode} {', '.join([target, *names])};", address(slot, DTYPES[result].itemsize)]
    if result == "pred":
        lines += [f"\tselp.u16 %h3, 1, 0, {target};", "\tst.global.u8 [%q2], %h3;"]
    else:
        lines.append(f"\tst.global.{result} [%q2], {target};")
    output = np.zeros(count, DTYPES[result])
    body = "\n".join([*lines, "$END:"])
    results, _ = run(body, [*arrays, output, count], grid=-(-count // 256), block=256)
    return results[-1]
