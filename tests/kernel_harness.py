"""Compile the text of a CPU kernel and run it on arrays: what the runtime's loader does, without cache or threads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ctypes import CFUNCTYPE, c_int64
from functools import cache
from typing import Any

import numpy as np
from numba import cfunc, types

LIBM = re.compile(r"\b_?((?:a?(?:sin|cos|tan)h?|atan2|exp|exp2|exp10|expm1|log|log1p|log2|log10|pow|erf|erfc|hypot"
                  r"|ldexp|fmod|rint|floor|ceil|trunc|nearbyint|round|fma|sqrt)f?)\b")
SIGNATURE = types.void(types.int64, types.int64, types.int64)


class CompiledKernel:
    """A kernel from its text. Calling it runs iterations start..stop over arguments: arrays become addresses."""

    def __init__(self, text: str) -> None:
        namespace: dict[str, Any] = {}
        exec(compile(text, "<kernel>", "exec"), namespace)
        self.name = re.findall(r"^def (\w+)\(args, start, stop\)", text, re.MULTILINE)[-1]
        self.compiled = cfunc(SIGNATURE, error_model="numpy")(namespace[self.name])
        self.entry = CFUNCTYPE(None, c_int64, c_int64, c_int64)(self.compiled.address)

    def __call__(self, arguments: Sequence[Any], stop: int, start: int = 0) -> None:
        table = np.array([slot.ctypes.data if isinstance(slot, np.ndarray) else int(slot) for slot in arguments],
                         dtype=np.int64)
        self.entry(table.ctypes.data, start, stop)

    @property
    def assembly(self) -> str:
        return str(self.compiled._library.get_asm_str())

    @property
    def llvm(self) -> str:
        """The optimised LLVM code."""
        return str(self.compiled._library.get_llvm_str())

    def calls(self) -> list[str]:
        """The call instructions in the machine code, the trampoline that cfunc adds aside."""
        inside, found = True, []
        for line in self.assembly.splitlines():
            if re.match(r"[A-Za-z_]", line):
                inside = not line.startswith("cfunc.")
            elif inside and re.match(r"\s+(callq?|blr?|jmpq?\s+\*)\b", line):
                found.append(line.strip())
        return found


    def libm_calls(self) -> set[str]:
        """The functions of libm that the machine code names, whatever machine it is for."""
        operands = [line.partition("\t")[2].partition("\t")[2] for line in self.assembly.splitlines()
                    if not line.lstrip().startswith((".", "#", "//"))]
        return {found.group(1) for each in operands for found in LIBM.finditer(each)}


@cache
def compile_kernel(text: str) -> CompiledKernel:
    return CompiledKernel(text)


def elementwise_kernel(expression: str, operands: Sequence[str], result: str, imports: Sequence[str]) -> CompiledKernel:
    """A kernel for y[i] = expression over a, b, c, ... of the given dtypes."""
    names = "abcdef"[: len(operands)]
    needed = sorted({*imports, *(f"pointer_{dtype}" for dtype in (*operands, result))})
    lines = [f"from staticgraph.runtime.cpu.language import {', '.join(needed)}", "", "",
             "def elementwise(args, start, stop):"]
    lines += [f"    {name}_ = pointer_{dtype}(args, {slot})" for slot, (name, dtype) in enumerate(zip(names, operands))]
    lines += [f"    y_ = pointer_{result}(args, {len(operands)})", "    for i in range(start, stop):"]
    lines += [f"        {name} = {name}_[i]" for name in names]
    lines += [f"        y_[i] = {expression}", ""]
    return compile_kernel("\n".join(lines))


def apply(expression: str, operands: Sequence[np.ndarray[Any, Any]], result: str,
          imports: Sequence[str]) -> np.ndarray[Any, Any]:
    """y[i] = expression, run over arrays of one length."""
    arrays = [np.ascontiguousarray(operand) for operand in operands]
    kernel = elementwise_kernel(expression, tuple(array.dtype.name for array in arrays), result, tuple(imports))
    output = np.empty(arrays[0].shape, result)
    kernel([*arrays, output], output.size)
    return output
