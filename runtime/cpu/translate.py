"""Kernel text in, object code out.

The usual way is our own front end and LLVM. A text that is beyond it is compiled by Numba, which explain() then says:
the one place that asks Numba to compile.

A kernel in object code is ``i32 entry(i64 args, i64 start, i64 stop)``. It returns Numba's status code, 0 unless the
text raised a Python exception, which the kernel language gives it no reason to. Numba's own C wrapper would report an
exception through the interpreter; every object would then need symbols that only an initialised Numba provides, and a
warm start could not do without it.
"""

from __future__ import annotations

import linecache
from typing import Any, NamedTuple

from staticgraph.compiler.program import Kernel
from staticgraph.errors import VerificationError

from ..collecting import without_garbage_collection
from .objects import linker


class Compiled(NamedTuple):
    """Object code, the symbol to call, the names of outside functions that it calls, and what there is to say of it."""

    code: bytes
    symbol: str
    imports: tuple[str, ...] = ()
    remark: str = ""


def translate(kernel: Kernel, symbol: str, filename: str) -> Compiled:
    """Object code of a kernel. The text runs here, in memory; tracebacks show it as `filename`."""
    # without a file behind the name, tracebacks find the text here; no modification time: never looked up on disk
    linecache.cache[filename] = (len(kernel.text), None, kernel.text.splitlines(keepends=True), filename)
    with without_garbage_collection():     # loading the front end makes many objects, too
        from .arithmetic import Beyond
        from .front_end import emit

        try:
            emitted = emit(kernel.text, kernel.name, symbol)
        except Beyond as beyond:
            return _translate(kernel, symbol, filename, f"by Numba: {beyond}")
        except SyntaxError as error:
            raise _refusal(kernel, filename, error) from error
        code, outside = linker().compile(emitted)
        return Compiled(code, symbol, outside)


def _refusal(kernel: Kernel, filename: str, error: Exception) -> VerificationError:
    return VerificationError(f"kernel '{kernel.name}' ({filename}) does not compile: {error}")


def _translate(kernel: Kernel, symbol: str, filename: str, remark: str) -> Compiled:
    from numba.core.errors import NumbaError

    namespace: dict[str, Any] = {"__name__": symbol, "__file__": filename}
    try:
        exec(compile(kernel.text, filename, "exec"), namespace)
        return _generate(namespace[kernel.name], symbol)._replace(remark=remark)
    except (NumbaError, SyntaxError, ImportError, LookupError, TypeError) as error:
        raise _refusal(kernel, filename, error) from error


def _generate(function: Any, symbol: str) -> Compiled:
    """What Numba's @cfunc does, with an entry point of our own instead of its wrapper."""
    from numba import types
    from numba.core import compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    flags = compiler.Flags()
    cpu_target.options.parse_as_flags(flags, {"nopython": True, "error_model": "numpy"})
    flags.nrt = False
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    arguments = (types.int64,) * 3
    with global_compiler_lock:
        result = compiler.compile_extra(cpu_target.typing_context, cpu_target.target_context, function, arguments,
                                        types.none, flags, {})
        library = result.library
        library.enable_object_caching()
        library.add_ir_module(_entry_module(cpu_target.target_context, result.fndesc, arguments, symbol))
        library._final_module.get_function(result.fndesc.llvm_func_name).linkage = "internal"     # to be inlined
        library.finalize()
        code = bytes(library._get_compiled_object())
        outside = [each.name for each in library._final_module.functions if each.is_declaration]
    return Compiled(code, symbol, tuple(sorted(name for name in outside if not name.startswith("llvm."))))


def _entry_module(context: Any, description: Any, arguments: tuple[Any, ...], symbol: str) -> Any:
    """An LLVM module with the entry point: calls the compiled function, returns its status code."""
    from llvmlite import ir
    from numba import types

    module = context.create_module(f"{symbol}_entry")
    callee = ir.Function(module, context.call_conv.get_function_type(types.none, arguments), description.llvm_func_name)
    slots = [context.get_value_type(each) for each in arguments]
    entry = ir.Function(module, ir.FunctionType(ir.IntType(32), slots), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    status, _ = context.call_conv.call_function(builder, callee, types.none, arguments, entry.args)
    builder.ret(status.code)
    return module
