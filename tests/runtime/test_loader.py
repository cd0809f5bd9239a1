"""Text of kernels to machine code."""

import ctypes
import gc
import inspect
import linecache
from pathlib import Path

import llvmlite
import pytest

from staticgraph.compiler.program import Kernel
from staticgraph.errors import VerificationError
from staticgraph.runtime import cache
from staticgraph.runtime.cpu import loader
from staticgraph.runtime.cpu.host import host_target
from staticgraph.runtime.cpu.objects import linker

from .programs import COPY, kernel

CALLING = """
define void @answer(ptr %args, i64 %start, i64 %stop) {
  %a = call i64 @NAME(i64 -42)
  store i64 %a, ptr %args
  ret void
}
declare i64 @NAME(i64)
"""


def test_equal_kernels_are_one() -> None:
    first, second = loader.load_kernel(kernel(COPY)), loader.load_kernel(kernel(COPY))
    assert first.address == second.address and second.origin == "process"


def test_the_name_is_part_of_the_key() -> None:
    text = "def one(args, start, stop):\n    pass\n\ndef two(args, start, stop):\n    pass\n"
    addresses = {loader.load_kernel(Kernel(name, "", text)).address for name in ("one", "two", "one")}
    assert len(addresses) == 2


def test_text_is_kept_beside_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "_loaded", {})
    loader.load_kernel(kernel(COPY))
    (text,) = (tmp_path / "cache").glob("k_*.py")
    assert text.read_text() == COPY and text.with_suffix(".obj").exists()
    text.write_text("raise SystemExit('a text on disk is never run')")
    text.with_suffix(".obj").unlink()
    monkeypatch.setattr(loader, "_loaded", {})
    assert loader.load_kernel(kernel(COPY)).origin == "compiled"
    assert text.read_text() == COPY


def test_without_a_cache_the_text_can_be_inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE", "0")
    monkeypatch.setattr(loader, "_loaded", {})
    before = set(linecache.cache)
    loader.load_kernel(kernel(COPY))
    (name,) = set(linecache.cache) - before
    linecache.checkcache(name)
    assert name.startswith("<k_") and "".join(linecache.getlines(name)) == COPY
    code = compile(COPY, name, "exec").co_consts[2]
    assert inspect.isfunction(test_equal_kernels_are_one) and inspect.getsource(code).startswith("def copy")


@pytest.mark.parametrize(("text", "words"), [
    ("def broken(args, start, stop):\n    return undefined_name(args)\n", "undefined_name"),
    ("def broken(args, start, stop)\n", "expected ':'"),
    ("def other(args, start, stop):\n    pass\n", "broken"),
    ("from staticgraph.runtime.cpu.language import no_such_word\n", "no_such_word"),
    ("def broken(args, start):\n    pass\n", "takes 2 arguments"),
])
def test_text_that_does_not_compile(text: str, words: str) -> None:
    with pytest.raises(VerificationError, match="kernel 'broken' .* does not compile: (?s:.*)" + words):
        loader.load_kernel(Kernel("broken", "", text))


def test_symbols_of_the_process_are_found() -> None:
    address = linker().link(linker().assemble(CALLING.replace("NAME", "llabs")),
                            "answer")
    slot = ctypes.c_int64(0)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)(ctypes.addressof(slot), 0, 0)
    assert slot.value == 42


def test_a_symbol_that_nobody_knows_is_an_error_and_then_a_miss(tmp_path: Path) -> None:
    code = linker().assemble(CALLING.replace("NAME", "nobody_knows_this"))
    with pytest.raises(RuntimeError, match="nobody_knows_this"):
        linker().link(code, "answer", ["nobody_knows_this"])
    with pytest.raises(RuntimeError, match="no_such_symbol"):
        linker().link(linker().assemble("define void @a() {\n ret void\n}"), "no_such_symbol")
    store = cache.Cache(tmp_path)
    assert store.write("k", {"symbol": "answer", "imports": ["nobody_knows_this"]}, code) == ""
    with pytest.raises(cache.CacheMiss, match="entry cannot be linked"):
        loader._from_cache(store, "k")


def test_numba_helpers_are_found() -> None:
    """An object that calls a helper of Numba: `numba_` names are imported with Numba loaded first."""
    text = """
        define i64 @address() {
          %a = ptrtoint ptr @numba_gil_ensure to i64
          ret i64 %a
        }
        declare void @numba_gil_ensure(ptr)
    """
    place = linker().link(linker().assemble(text), "address", ["numba_gil_ensure"])
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(place)() != 0


def test_the_key_covers_what_machine_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = loader.fingerprint.__wrapped__()
    assert usual == loader.fingerprint.__wrapped__() and len(usual) == 64
    seen = {usual}
    for patch in (lambda p: p.setenv("NUMBA_OPT", "1"),
                  lambda p: p.setattr(loader, "_numba_version", lambda: "0"),
                  lambda p: p.setattr(loader.np, "__version__", "0"),
                  lambda p: p.setattr(llvmlite, "__version__", "0"),
                  lambda p: p.setattr(loader.platform, "python_version", lambda: "0"),
                  lambda p: p.setattr(loader, "host_target", lambda: host_target().__class__(name="other")),
                  lambda p: p.setattr(loader.Path, "read_bytes", lambda path: b"changed")):
        with monkeypatch.context() as context:
            patch(context)
            seen.add(loader.fingerprint.__wrapped__())
    assert len(seen) == 8


def test_numba_version_without_importing_it() -> None:
    import numba

    assert f'"{numba.__version__}"' in loader._numba_version()


def test_host() -> None:
    target = host_target()
    assert target.device == "cpu" and target.name and target.vector_bytes in (16, 32, 64)
    assert (target.vector_bytes == 64) == ("+avx512f" in target.features.split(","))


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_left_as_it_was(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_loaded", {})
    monkeypatch.setenv("STATICGRAPH_CACHE", "0")
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        loader.load_kernel(kernel(COPY))
        assert gc.isenabled() == enabled
        with pytest.raises(VerificationError):
            loader.load_kernel(Kernel("none", "", ""))
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()
