"""Kernel text in, PTX and a cubin out, with neither a GPU nor a driver: the file that asks the compilers.

Numba's CUDA front end makes LLVM IR of the text, libNVVM makes PTX of that and nvJitLink a cubin with a log of what the
kernel uses. The front end is most of the work and knows nothing of the GPU, so one run of it serves any number of
compute capabilities.

Invariants: same text, same PTX, byte for byte; the entry point is called what the kernel is called, and all of its
parameters are 64-bit integers; no multiplication and addition are contracted unless the text says so (-fma=0, twice);
divisions and square roots are rounded correctly and subnormals kept (the defaults of both tools).
"""

from __future__ import annotations

import ast
import linecache
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from staticgraph.errors import DeviceError, VerificationError

from ..collecting import without_garbage_collection
from .loops import MARKED, MARKER, plain_loops, unroll_marked

Capability = tuple[int, int]
"""A GPU's compute capability, (9, 0) for Hopper."""

OLDEST: Capability = (8, 0)
"""Ampere: the first whose minimum and maximum can propagate nan."""

INSTALL = 'pip install "staticgraph[cuda]"'


@dataclass(frozen=True)
class Translated:
    """Machine code of one kernel for one compute capability, and what a thread and a block of it use."""

    ptx: str
    cubin: bytes
    symbol: str
    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int


def translate(name: str, text: str, capability: Capability, threads: int, filename: str = "") -> Translated:
    """The kernel `name` of a text for one compute capability, launched with at most `threads` threads a block."""
    return translate_all(name, text, [capability], threads, filename)[0]


def translate_all(name: str, text: str, capabilities: Sequence[Capability], threads: int,
                  filename: str = "") -> list[Translated]:
    """The kernel for each of several compute capabilities. Tracebacks show the text as `filename`."""
    for major, minor in capabilities:
        if (major, minor) < OLDEST:
            raise DeviceError("a GPU of compute capability {}.{} is too old: the kernels need {}.{}"
                              .format(major, minor, *OLDEST))
    with without_garbage_collection():
        code = _front_end(name, text, threads, filename or f"<kernel {name}>")
        return [_back_end(name, code, capability) for capability in capabilities]


def _front_end(name: str, text: str, threads: int, filename: str) -> str:
    """The kernel as LLVM IR in NVVM's dialect."""
    _require_front_end()
    from numba.core.errors import NumbaError
    from numba.cuda.core.errors import NumbaError as CudaError

    # without a file behind the name, tracebacks find the text here; no modification time: never looked up on disk
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": name, "__file__": filename, MARKER: _marker()}
    try:
        exec(compile(plain_loops(ast.parse(text, filename)), filename, "exec"), namespace)
        return _intermediate_code(namespace[name], name, threads)
    except (NumbaError, CudaError, SyntaxError, ImportError, LookupError, TypeError, AttributeError) as error:
        raise VerificationError(f"kernel '{name}' ({filename}) does not compile: {error}") from error


def _intermediate_code(function: Any, symbol: str, threads: int) -> str:
    from numba.core.compiler_lock import global_compiler_lock
    from numba.cuda import compiler, types
    from numba.cuda.cudadrv import nvvm

    arguments = (types.int64,) * function.__code__.co_argcount
    with global_compiler_lock, warnings.catch_warnings():     # the lock of kernels for the CPU: they share the formulas
        warnings.simplefilter("ignore")
        result = compiler.compile_cuda(function, types.void, arguments, cc=(8, 0), abi="numba")
        entry = result.library.get_function(result.fndesc.llvm_func_name)
        compiler.kernel_fixup(entry, False)
        nvvm.set_launch_bounds(entry, threads)
        (code,) = result.library.llvm_strs
    code = unroll_marked(code.replace(entry.name, symbol))     # Numba's own name counts what was compiled before
    return re.sub(r'^@"?_ZN08NumbaEnv.*\n', "", code, flags=re.MULTILINE)     # an environment that kernels do without


@cache
def _marker() -> Any:
    """The kernel function that marks a loop: an assembly comment, which `unroll_marked` takes out again."""
    from llvmlite import ir
    from numba.cuda import types

    from ..mathematics.emit import leaf

    def resolve() -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.asm(ir.FunctionType(ir.VoidType(), []), MARKED, "", [], side_effect=True)
            return context.get_dummy_value()

        return types.void(), generate

    return leaf(MARKER, resolve, 0, "The loop whose body ends here is to be unrolled.")


def _back_end(name: str, code: str, capability: Capability) -> Translated:
    architecture = "{}{}".format(*capability)
    ptx = _assembly(name, code, architecture)
    cubin, log = _link(name, ptx, architecture)
    return Translated(ptx, cubin, name, *_resources(name, log))


def _assembly(name: str, code: str, architecture: str) -> str:
    """PTX by libNVVM."""
    nvvm = _require("cuda.bindings.nvvm")
    options = [f"-arch=compute_{architecture}", "-opt=3", "-fma=0"]
    content = code.encode()
    program = nvvm.create_program()
    try:
        nvvm.add_module_to_program(program, content, len(content), name)
        nvvm.compile_program(program, len(options), options)
        result = bytearray(nvvm.get_compiled_result_size(program))
        nvvm.get_compiled_result(program, result)
    except nvvm.nvvmError as error:
        log = bytearray(nvvm.get_program_log_size(program))
        nvvm.get_program_log(program, log)
        if "unsupported option" in _decode(log):     # of the options, only the architecture is not a constant
            raise DeviceError(f"the installed libNVVM knows no GPU of architecture sm_{architecture}\n"
                              "  needed: another version of nvidia-nvvm and nvidia-nvjitlink") from error
        raise VerificationError(f"kernel '{name}': libNVVM refuses it: {error}\n{_decode(log)}") from error
    finally:
        nvvm.destroy_program(program)
    return _decode(result).strip() + "\n"


def _link(name: str, ptx: str, architecture: str) -> tuple[bytes, str]:
    """A cubin by nvJitLink, and its log of resources."""
    nvjitlink = _require("cuda.bindings.nvjitlink")
    options = [f"-arch=sm_{architecture}", "-fma=0", "-verbose"]
    content = ptx.encode()
    linker = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, content, len(content), name)
        nvjitlink.complete(linker)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, cubin)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(linker))
        nvjitlink.get_error_log(linker, log)
        _check_versions(ptx, nvjitlink.version())
        raise VerificationError(f"kernel '{name}': nvJitLink refuses it: {error}\n{_decode(log)}") from error
    finally:
        nvjitlink.destroy(linker)
    return bytes(cubin), _decode(log)


def _check_versions(ptx: str, linker: tuple[int, int]) -> None:
    """PTX of a newer minor version than the linker's is refused; the linker's own message does not say so."""
    stated = re.search(r"release (\d+)\.(\d+)", ptx)
    compiler = tuple(map(int, stated.groups())) if stated else linker
    if compiler != linker:
        versions = ["{}.{}".format(*version) for version in (compiler, linker)]
        raise DeviceError(f"nvidia-nvvm is of CUDA {versions[0]}, nvidia-nvjitlink of CUDA {versions[1]}\n"
                          f"  needed: both of one version, as by {INSTALL}")


def _decode(content: bytearray) -> str:
    return content.decode(errors="replace").strip("\0")


def _resources(name: str, log: str) -> tuple[int, int, int, int]:
    """(registers, spill bytes, stack bytes, shared bytes) out of the assembler's log, which mentions shared memory only
    where there is some."""
    stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    used = re.search(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", log)
    if stack is None or used is None:
        raise VerificationError(f"kernel '{name}': nvJitLink's log does not say what it uses\n{log}")
    return int(used[1]), max(int(stack[2]), int(stack[3])), int(stack[1]), int(used[2] or 0)


def _require_front_end() -> None:
    """numba-cuda as a whole: it loads much of itself late, and meets a NumPy that is too new for it only then."""
    import numpy

    found = _require("numba_cuda")     # not numba.cuda: old versions of Numba have one of their own
    try:
        import numba.cuda.np.arrayobj  # noqa: F401
    except AttributeError as error:
        raise DeviceError(f"numba-cuda {getattr(found, '__version__', '')} does not work with NumPy "
                          f"{numpy.__version__}: {error}\n  needed: {INSTALL}") from error


PACKAGES = {"numba_cuda": "numba-cuda", "cuda.bindings.nvvm": "nvidia-nvvm",
            "cuda.bindings.nvjitlink": "nvidia-nvjitlink"}


def _require(module: str) -> Any:
    """The module, or a DeviceError that says what to install."""
    import importlib

    try:
        found = importlib.import_module(module)
        if module.startswith("cuda.bindings"):
            found.version()     # loads the library behind it
        return found
    except (ImportError, RuntimeError, OSError) as error:
        raise DeviceError(f"the CUDA compiler is not installed: {PACKAGES[module]} cannot be loaded ({error})\n"
                          f"  needed: {INSTALL}") from error
