"""LLVM's passes over the code of a kernel. What they are decides about bits: sums that are free to be added up in any
order are added up in the order that these passes find."""

from __future__ import annotations

from functools import cache
from typing import Any

from .host import host_cpu

OPTIMISATION = 2
"""LLVM's level, for passes and for machine code. The third takes a third longer, and no kernel feels it."""


def optimise(text: str) -> Any:
    """The module of a kernel's LLVM code, optimised for this CPU."""
    import llvmlite.binding as llvm

    machine = tuned_machine()
    module = llvm.parse_assembly(text)
    module.verify()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(OPTIMISATION)
    tuning.loop_vectorization, tuning.slp_vectorization = True, False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


@cache
def tuned_machine() -> Any:
    """A machine for all that this CPU can do."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target, (name, features) = llvm.Target.from_triple(llvm.get_process_triple()), host_cpu()
    return target.create_target_machine(cpu=name, features=features, opt=OPTIMISATION, codemodel="jitdefault", jit=True,
                                        reloc="static" if target.name.startswith("x86") else "default")
