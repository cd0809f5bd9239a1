"""What every cubin keeps to: nothing of a thread in memory, no float64 where the text has none, room on the chip."""

from __future__ import annotations

import re

from staticgraph.compiler.program import Kernel
from staticgraph.runtime.cuda.translate import Translated, translate_all
from tests.cuda import CAPABILITIES

REGISTERS_OF_A_PROCESSOR = 65536
MOST_REGISTERS = 255
STATIC_SHARED = 48 * 1024

_translated: dict[str, list[Translated]] = {}


def translated(kernel: Kernel) -> Translated:
    """The kernel for every capability of the suite, each of them checked; gives the last one."""
    assert kernel.launch is not None
    if kernel.key not in _translated:
        codes = translate_all(kernel.name, kernel.text, CAPABILITIES, kernel.launch.threads)
        for code in codes:
            check_resources(kernel, code)
        _translated[kernel.key] = codes
    return _translated[kernel.key][-1]


def check_resources(kernel: Kernel, code: Translated) -> None:
    assert kernel.launch is not None
    what = f"{kernel.name}: {code.registers} registers, {code.spill_bytes} spilled, {code.stack_bytes} of stack, " \
           f"{code.shared_bytes} shared\n{kernel.text}"
    assert code.cubin[:4] == b"\x7fELF", what
    assert code.spill_bytes == 0 and code.stack_bytes == 0 and ".local" not in code.ptx, what
    assert code.registers <= MOST_REGISTERS, what
    assert code.registers * kernel.launch.threads <= REGISTERS_OF_A_PROCESSOR, what
    assert code.shared_bytes <= STATIC_SHARED, what
    assert not re.search(r"\bcall\b", code.ptx), f"a call in {what}"
    assert "float64" in kernel.text or ".f64" not in code.ptx, f"float64 in {what}"
