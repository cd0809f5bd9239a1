"""Kernel text to PTX and cubin: entry points, options, resources, errors. No GPU and no driver."""

import gc
import re
import struct
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from staticgraph.errors import DeviceError, VerificationError
from staticgraph.runtime.cuda import translate as module
from staticgraph.runtime.cuda.translate import Translated, translate, translate_all

from . import CAPABILITIES, needs_compiler

ROOT = Path(__file__).resolve().parents[2]
MACHINE_CUDA = 190
"""The number of NVIDIA's GPUs in an ELF header."""

AXPY = """
from staticgraph.runtime.cuda.language import block, input_float32, pointer_float32, thread

def axpy(a0, a1, stop):
    x = input_float32(a0)
    y = pointer_float32(a1)
    i = block() * 128 + thread()
    if i < stop:
        y[i] = x[i] * y[i] + x[i]
"""

IMPORTS = """
from staticgraph.runtime.cuda.language import fail, input_bool, input_int32, input_int64, load2, load8
from staticgraph.runtime.cuda.language import shared_bool, store2
"""

SPILLING = """
from staticgraph.runtime.cuda.language import input_float64, pointer_float64, sin

def spilling(a0, a1):
    x = input_float64(a0)
    y = pointer_float64(a1)
""" + "".join(f"    v{i} = sin(x[{i}])\n" for i in range(48)) + "".join(
    f"    y[{i}] = {' + '.join(f'v{j} * x[{i + j}]' for j in range(48))}\n" for i in range(3))


def instructions(ptx: str) -> list[str]:
    """The first word of each instruction."""
    return re.findall(r"^\s+(?:@!?%p\d+\s+)?([a-z][a-z0-9_.]*)\s", ptx.partition("\n{")[2], re.MULTILINE)


@pytest.fixture(scope="module")
def both() -> list[Translated]:
    return translate_all("axpy", AXPY, CAPABILITIES, 128)


@needs_compiler
def test_one_front_end_serves_several_capabilities(both: list[Translated]) -> None:
    for (major, minor), each in zip(CAPABILITIES, both):
        assert f".target sm_{major}{minor}\n" in each.ptx
        assert each == translate("axpy", AXPY, (major, minor), 128)
    assert both[0].ptx.replace("sm_80", "sm_90") == both[1].ptx


@needs_compiler
def test_a_cubin_is_an_elf_file_for_its_gpu(both: list[Translated]) -> None:
    for each in both:
        assert each.cubin.startswith(b"\x7fELF") and struct.unpack_from("<H", each.cubin, 18) == (MACHINE_CUDA,)
        assert b".text.axpy\0" in each.cubin
    assert both[0].cubin != both[1].cubin


@needs_compiler
def test_the_entry_point_has_the_kernels_name_and_int64_parameters(both: list[Translated]) -> None:
    assert all(each.symbol == "axpy" for each in both)
    assert re.findall(r"\.(?:entry|func) (\w+)", both[0].ptx) == ["axpy"]
    assert re.findall(r"\.param \.(\w+) (\w+)", both[0].ptx) == [("u64", f"axpy_param_{i}") for i in range(3)]
    assert ".global" not in both[0].ptx.partition("{")[0]     # nothing beside the kernel


@needs_compiler
@pytest.mark.parametrize("name", ["add", "exit", "shared", "tid", "float", "printf"])
def test_names_that_mean_something_to_ptx(name: str) -> None:
    text = f"{IMPORTS}def {name}(a0):\n    shared_bool(4)[a0] = shared_bool(4)[a0]\n"
    assert re.findall(r"\.entry (\w+)", translate(name, text, (9, 0), 32).ptx) == [name]


@needs_compiler
def test_launch_bounds_are_the_threads_of_a_block(both: list[Translated]) -> None:
    assert ".maxntid 128, 1, 1" in both[0].ptx
    assert ".maxntid 1024, 1, 1" in translate("axpy", AXPY, (9, 0), 1024).ptx


@needs_compiler
def test_products_and_sums_stay_apart(both: list[Translated]) -> None:
    words = instructions(both[0].ptx)
    assert "mul.rn.f32" in words and "add.rn.f32" in words and not any(word.startswith("fma") for word in words)
    assert not any(".ftz" in word or ".approx" in word for word in words)


@needs_compiler
def test_pointers_are_in_global_memory_and_inputs_read_only(both: list[Translated]) -> None:
    words = instructions(both[0].ptx)
    assert sorted(word for word in words if word.startswith("ld.g")) == ["ld.global.f32", "ld.global.nc.f32"]
    assert [word for word in words if word.startswith("st.")] == ["st.global.f32"]
    assert not any(word.startswith("cvta") for word in words)


@needs_compiler
def test_same_text_same_ptx_in_another_process(both: list[Translated]) -> None:
    code = ("from tests.cuda.test_translate import AXPY, SPILLING, translate\n"
            "translate('spilling', SPILLING, (9, 0), 32)\n"
            "print(translate('axpy', AXPY, (9, 0), 128).ptx, end='')")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout == both[1].ptx


@needs_compiler
def test_resources_are_read_from_the_log() -> None:
    plain, spilling = translate("axpy", AXPY, (9, 0), 128), translate("spilling", SPILLING, (9, 0), 1024)
    assert 4 < plain.registers < 32
    assert (plain.spill_bytes, plain.stack_bytes, plain.shared_bytes) == (0, 0, 0)
    assert spilling.registers == 64 and spilling.spill_bytes > 0 and spilling.stack_bytes > 0


def test_a_log_of_another_form_is_an_error() -> None:
    log = ("0 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads\n"
           "Used 40 registers, used 1 barriers, 96 bytes smem")
    assert module._resources("k", log) == (40, 16, 0, 96)
    assert module._resources("k", log.partition(", used")[0]) == (40, 16, 0, 0)
    with pytest.raises(VerificationError, match="kernel 'k': nvJitLink's log does not say"):
        module._resources("k", "all is well")


@needs_compiler
@pytest.mark.parametrize(("text", "words"), [
    ("def broken(a0):\n    return undefined_name(a0)\n", "undefined_name"),
    ("def broken(a0)\n", "expected ':'"),
    ("def other(a0):\n    pass\n", "broken"),
    ("from staticgraph.runtime.cuda.language import no_such_word\n", "no_such_word"),
    ("broken = 5\n", "__code__"),
    ("def broken(a0):\n    return a0\n", "int64"),
    (IMPORTS + "def broken(a):\n    input_bool(a)[0] = True\n", "is an input"),
    (IMPORTS + "def broken(a):\n    store2(input_bool(a), 0, True, True)\n", "is an input"),
    (IMPORTS + "def broken(a):\n    load8(input_int32(a), 0)\n", "more than 16 bytes"),
    (IMPORTS + "def broken(a):\n    load2(a, 0)\n", "int64 is not a pointer"),
    (IMPORTS + "def broken(a):\n    shared_bool(a)\n", "not a literal"),
    (IMPORTS + "def broken(a):\n    shared_bool(0)\n", "not a literal above 0"),
    (IMPORTS + "def broken(a):\n    fail(a, 0, 0, 0)\n", "not a pointer_int64"),
    (IMPORTS + "def broken(a):\n    fail(input_int64(a), 0, 0, 0)\n", "not a pointer_int64"),
])
def test_text_that_does_not_compile(text: str, words: str) -> None:
    with pytest.raises(VerificationError, match=r"kernel 'broken' \(file.py\) does not compile: (?s:.*)" + words):
        translate("broken", text, (9, 0), 32, "file.py")


@needs_compiler
def test_what_the_back_ends_refuse() -> None:
    with pytest.raises(VerificationError, match=r"kernel 'k': libNVVM refuses it: (?s:.*)parse"):
        module._back_end("k", "define void @k() {\n  frobnicate\n}\n", (9, 0))
    with pytest.raises(VerificationError, match=r"kernel 'k': nvJitLink refuses it: (?s:.*) error near 'nonsense'"):
        module._link("k", ".version 9.0\n.target sm_90\n.address_size 64\nnonsense\n", "90")


def test_gpus_that_are_too_old() -> None:
    with pytest.raises(DeviceError, match=r"a GPU of compute capability 7\.5 is too old: the kernels need 8\.0"):
        translate("axpy", AXPY, (7, 5), 128)


@needs_compiler
def test_gpus_that_the_compiler_does_not_know() -> None:
    with pytest.raises(DeviceError, match=r"libNVVM knows no GPU of architecture sm_990\n  needed: another version"):
        translate("axpy", AXPY, (99, 0), 128)


@needs_compiler
@pytest.mark.parametrize("capability", [(8, 9), (10, 0), (12, 0)])
def test_other_generations(capability: tuple[int, int], both: list[Translated]) -> None:
    """Blackwell's PTX comes out of a newer LLVM; the same must hold."""
    made = translate("axpy", AXPY, capability, 128)
    assert sorted(instructions(made.ptx)).count("mul.rn.f32") == 1 and "ld.global.nc.f32" in instructions(made.ptx)
    assert "fma.rn.f32" not in instructions(made.ptx) and made.spill_bytes == made.stack_bytes == 0


@needs_compiler
def test_parts_of_different_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = ".version 99.0\n// Cuda compilation tools, release 99.5, V99.5.1\n.target sm_90\n.address_size 64\n"
    with pytest.raises(DeviceError, match=r"nvidia-nvvm is of CUDA 99\.5, nvidia-nvjitlink of CUDA 13\.\d+\n"):
        module._link("k", newer, "90")


@pytest.mark.parametrize(("blocked", "package"), [
    ("numba_cuda", "numba-cuda"), ("cuda.bindings.nvvm", "nvidia-nvvm"),
    ("cuda.bindings.nvjitlink", "nvidia-nvjitlink")])
def test_missing_packages_are_named(blocked: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, blocked, None)
    needed = {"numba_cuda": lambda: translate("axpy", AXPY, (9, 0), 32),
              "cuda.bindings.nvvm": lambda: module._assembly("k", "", "90"),
              "cuda.bindings.nvjitlink": lambda: module._link("k", "", "90")}[blocked]
    with pytest.raises(DeviceError, match=f"the CUDA compiler is not installed: {package} cannot be loaded") as caught:
        needed()
    assert str(caught.value).endswith('\n  needed: pip install "staticgraph[cuda]"')


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> Any:
        raise RuntimeError("Failure finding libnvvm.so")

    binding = types.ModuleType("cuda.bindings.nvvm")
    vars(binding)["version"] = version
    for name, value in (("cuda", types.ModuleType("cuda")), ("cuda.bindings", types.ModuleType("bindings")),
                        ("cuda.bindings.nvvm", binding)):
        monkeypatch.setitem(sys.modules, name, value)
    with pytest.raises(DeviceError, match=r"nvidia-nvvm cannot be loaded \(Failure finding libnvvm.so\)"):
        module._require("cuda.bindings.nvvm")


@needs_compiler
def test_nothing_is_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        translate("axpy", AXPY, (9, 0), 1)


@needs_compiler
@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_left_as_it_was(enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        translate("axpy", AXPY, (9, 0), 32)
        assert gc.isenabled() == enabled
        with pytest.raises(VerificationError):
            translate("none", "", (9, 0), 32)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()
