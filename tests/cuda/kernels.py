"""Tables of expressions as kernels of either device: the same lines, so that the same bits may be asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from staticgraph.runtime.cuda.translate import Translated, translate_all
from tests.kernel_harness import compile_kernel
from tests.ptx import Counters, DeviceMemory, PtxModule

from . import CAPABILITIES

THREADS = 128
Array = np.ndarray[Any, Any]

FORBIDDEN = re.compile(r"\bcall|\.local|\.ftz|\.approx|\.full|cvta|__local_depot|%SP")
"""What no kernel may contain: calls, local memory, subnormals flushed, approximations, generic addresses."""


@cache
def compile_cuda(name: str, text: str, threads: int = THREADS) -> list[Translated]:
    """A kernel for all capabilities, held to what must be true of every kernel."""
    made = translate_all(name, text, CAPABILITIES, threads)
    for each in made:
        found = FORBIDDEN.search(each.ptx)
        assert found is None, f"{found.group()} in\n{each.ptx}" if found else ""
        assert (each.spill_bytes, each.stack_bytes) == (0, 0), f"{name}: {each.spill_bytes} bytes spilled"
        assert "float64" in text or ".f64" not in each.ptx, f"float64 in\n{each.ptx}"
    return made


def run_cuda(ptx: str, name: str, arguments: Sequence[Any], blocks: int, threads: int = THREADS) -> Counters:
    """Run a kernel in the interpreter; arrays are copied to its memory and back."""
    memory, numbers = DeviceMemory(), []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            numbers.append(memory.allocate(max(argument.nbytes, 1)))
            memory.write(numbers[-1], argument)
        else:
            numbers.append(int(argument))
    counters = PtxModule(ptx).run(name, blocks, threads, numbers, memory)
    for argument, address in zip(arguments, numbers):
        if isinstance(argument, np.ndarray):
            argument[...] = memory.read(address, argument.dtype.name, argument.size).reshape(argument.shape)
    return counters


@dataclass(frozen=True)
class Table:
    """results[k][i] = expressions[k] of a, b, c, which are elements i of arrays of one dtype."""

    dtype: str
    expressions: tuple[tuple[str, str], ...]
    """(expression, dtype of the result)"""

    def names(self) -> str:
        """What the expressions import."""
        words = {word for expression, _ in self.expressions for word in re.findall(r"[a-z_]\w*", expression)}
        return ", ".join(sorted(words - {"a", "b", "c", "and", "or", "not", "min", "max"}))

    def cuda(self) -> str:
        results = [f"r{number}" for number in range(len(self.expressions))]
        pointers = sorted({f"pointer_{result}" for _, result in self.expressions} | {f"input_{self.dtype}"})
        lines = [f"from staticgraph.runtime.cuda.language import block, thread, {', '.join(pointers)}"]
        lines += [f"from staticgraph.runtime.cuda.language import {self.names()}"] if self.names() else []
        lines += [f"def table(a_, b_, c_, {', '.join(results)}, stop):", f"    i = block() * {THREADS} + thread()",
                  "    if i < stop:"]
        lines += [f"        {name} = input_{self.dtype}({name}_)[i]" for name in "abc"]
        lines += [f"        pointer_{result}({name})[i] = {expression}"
                  for name, (expression, result) in zip(results, self.expressions)]
        return "\n".join(lines) + "\n"

    def cpu(self) -> str:
        pointers = sorted({f"pointer_{result}" for _, result in self.expressions} | {f"pointer_{self.dtype}"})
        lines = [f"from staticgraph.runtime.cpu.language import {', '.join(pointers)}"]
        lines += [f"from staticgraph.runtime.cpu.language import {self.names()}"] if self.names() else []
        lines += ["def table(args, start, stop):"]
        lines += [f"    {name}_ = pointer_{self.dtype}(args, {slot})" for slot, name in enumerate("abc")]
        lines += [f"    r{number} = pointer_{result}(args, {number + 3})"
                  for number, (_, result) in enumerate(self.expressions)]
        lines += ["    for i in range(start, stop):", "        a, b, c = a_[i], b_[i], c_[i]"]
        lines += [f"        r{number}[i] = {expression}" for number, (expression, _) in enumerate(self.expressions)]
        return "\n".join(lines) + "\n"

    def run(self, device: str, operands: Sequence[Array]) -> list[Array]:
        size = operands[0].size
        results = [np.empty(size, dtype) for _, dtype in self.expressions]
        arguments = [*operands, *results, size]
        if device == "cpu":
            compile_kernel(self.cpu())(arguments[:-1], size)
        else:
            run_cuda(compile_cuda("table", self.cuda())[0].ptx, "table", arguments, -(-size // THREADS))
        return results
