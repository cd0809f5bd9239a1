"""LLVM code in, object code out; object code in, addresses out: LLVM's optimiser and linker and nothing else.

Each object is linked into a library of its own, so that symbols of different kernels never meet. Numba is not needed
and not imported, except for the rare object that calls one of its helpers: a process whose kernels all come from the
cache starts without it. A symbol that cannot be found is an error of this one object (RuntimeError), never an exit.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from typing import Any

from staticgraph import locks

from .optimise import optimise, tuned_machine


class Linker:
    """The one place that machine code is brought to memory. What it has linked stays until the process ends."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._llvm = llvm
        self._session = llvm.create_lljit_compiler(self._machine(), suppress_errors=True)
        self._names = itertools.count()
        self._libraries: list[Any] = []
        self._lock = locks.lock()

    def _machine(self) -> Any:
        target = self._llvm.Target.from_triple(self._llvm.get_process_triple())
        return target.create_target_machine(opt=2, reloc="static", codemodel="jitdefault", jit=True)

    def assemble(self, text: str) -> bytes:
        """Object code of LLVM assembly."""
        module = self._llvm.parse_assembly(text)
        module.verify()
        return bytes(self._machine().emit_object(module))

    def compile(self, text: str) -> tuple[bytes, tuple[str, ...]]:
        """Object code of a kernel's LLVM code, and the outside functions that it calls."""
        module = optimise(text)
        outside = [each.name for each in module.functions if each.is_declaration]
        code = bytes(tuned_machine().emit_object(module))
        return code, tuple(sorted(name for name in outside if not name.startswith("llvm.")))

    def list_code(self, text: str) -> str:
        """The assembly that `compile` makes object code of, for people and tests."""
        return str(tuned_machine().emit_assembly(optimise(text)))

    def link(self, code: bytes, symbol: str, imports: Sequence[str] = ()) -> int:
        """Bring object code to memory; the address of `symbol` in it. `imports` are outside functions it may call."""
        builder = self._llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        outside = {name: self._outside(name) for name in imports}
        for name, place in outside.items():
            if place is not None:
                builder.import_symbol(name, place)
        with self._lock:
            try:
                library = builder.export_symbol(symbol).link(self._session, f"kernel{next(self._names)}")
            except RuntimeError as error:
                unknown = ", ".join(name for name, place in outside.items() if place is None) or "none"
                raise RuntimeError(f"{error} (outside functions not known to LLVM: {unknown})") from None
            self._libraries.append(library)
        return int(library[symbol])

    def _outside(self, name: str) -> int | None:
        """The address of a function that LLVM knows by name; None leaves it to the process's own symbols."""
        if name.startswith("numba_"):
            importlib.import_module("numba")     # registers its helpers with LLVM
        place = self._llvm.address_of_symbol(name)
        return None if place is None else int(place)


_linker: Linker | None = None
_lock = locks.lock()


def linker() -> Linker:
    """The linker of this process."""
    global _linker
    with _lock:
        if _linker is None:
            _linker = Linker()
        return _linker
