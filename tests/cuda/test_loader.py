"""CUDA kernels through the process and the cache on disk, under the faults that can befall an entry."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from staticgraph.compiler.program import Kernel, Launch
from staticgraph.errors import VerificationError
from staticgraph.runtime import cache
from staticgraph.runtime.cuda import loader
from staticgraph.runtime.cuda.translate import Translated

from . import needs_compiler

ROOT = Path(__file__).resolve().parents[2]
MADE = Translated("// ptx of λ\n", b"\x7fELF cubin", "scale", 18, 4, 8, 512)
KERNEL = Kernel("scale", "", """
from staticgraph.runtime.cuda.language import float32, pointer_float32, thread

def scale(a0, stop):
    x = pointer_float32(a0)
    if thread() < stop:
        x[thread()] = x[thread()] * float32(2.0)
""", Launch(64, 64))


class Translator:
    """Stands for the compiler; counts."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Translated:
        self.calls.append(arguments)
        return MADE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "_loaded", {})
    return tmp_path / "cache"


@pytest.fixture
def translator(monkeypatch: pytest.MonkeyPatch) -> Translator:
    translator = Translator()
    monkeypatch.setattr(loader, "translate", translator)
    return translator


def load_afresh(kernel: Kernel = KERNEL, capability: tuple[int, int] = (9, 0)) -> loader.LoadedKernel:
    loader._loaded.clear()     # as a new process finds it
    return loader.load_kernel(kernel, capability)


def only_entry(folder: Path) -> Path:
    (entry,) = folder.glob("*.obj")
    return entry


def test_compiled_then_cached_then_at_hand(folder: Path, translator: Translator) -> None:
    first, second, third = load_afresh(), load_afresh(), loader.load_kernel(KERNEL, (9, 0))
    assert [each.origin for each in (first, second, third)] == ["compiled", "cache", "process"]
    assert [each.reason for each in (first, second, third)] == ["no entry", "", ""]
    assert first.code == second.code == third.code == MADE
    entry = only_entry(folder)
    assert translator.calls == [("scale", KERNEL.text, (9, 0), 64, str(entry.with_suffix(".py")))]
    assert entry.with_suffix(".py").read_text() == KERNEL.text
    assert entry.with_suffix(".ptx").read_text(encoding="utf-8") == MADE.ptx
    assert len(list(folder.iterdir())) == 3


def test_every_part_of_the_key_counts(folder: Path, translator: Translator) -> None:
    for name, text, threads, capability in (("a", "x", 32, (9, 0)), ("b", "x", 32, (9, 0)), ("a", "y", 32, (9, 0)),
                                            ("a", "x", 64, (9, 0)), ("a", "x", 32, (8, 0)), ("a", "x", 32, (9, 0))):
        loader.load_kernel(Kernel(name, "", text, Launch(threads, 1)), capability)
    assert len(translator.calls) == 5


def test_items_and_blocks_are_not_part_of_the_code(folder: Path, translator: Translator) -> None:
    loader.load_kernel(KERNEL, (9, 0))
    assert loader.load_kernel(Kernel("scale", "", KERNEL.text, Launch(64, 1024, 7)), (9, 0)).origin == "process"


def test_a_kernel_for_the_cpu_is_refused() -> None:
    with pytest.raises(VerificationError, match="kernel 'scale' does not say how it is launched"):
        loader.load_kernel(Kernel("scale", "", KERNEL.text), (9, 0))


def rewritten(change: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]) -> Callable[[Path], object]:
    def rewrite(path: Path) -> None:
        entry = cache._decode(path.read_bytes(), path.stem.removeprefix("k_"))
        path.write_bytes(cache._encode(*change(dict(entry.header), entry.payload)))

    return rewrite


def without(name: str) -> Callable[[Path], object]:
    return rewritten(lambda header, payload: ({key: header[key] for key in header if key != name}, payload))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"), "entry damaged: checksum differs"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "entry damaged: checksum differs"),
    "no registers": (without("registers"), "entry is no CUDA kernel: KeyError('registers')"),
    "no symbol": (without("symbol"), "entry is no CUDA kernel: KeyError('symbol')"),
    "an object of the CPU": (without("cubin"), "entry is no CUDA kernel: KeyError('cubin')"),
    "no number": (rewritten(lambda header, payload: ({**header, "cubin": None}, payload)),
                  "entry is no CUDA kernel: TypeError"),
    "no text": (rewritten(lambda header, payload: (header, payload + b"\xff")),
                "entry is no CUDA kernel: UnicodeDecodeError"),
    "writable by all": (lambda path: path.chmod(0o666), "entry refused: others may write to it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_entries_are_made_again(folder: Path, translator: Translator, fault: str) -> None:
    load_afresh()
    whole = only_entry(folder).read_bytes()
    damage, reason = FAULTS[fault]
    damage(only_entry(folder))
    again = load_afresh()
    assert again.origin == "compiled" and again.reason.startswith(reason) and again.code == MADE
    assert only_entry(folder).read_bytes() == whole
    assert load_afresh().origin == "cache" and len(translator.calls) == 2


def test_without_a_cache(monkeypatch: pytest.MonkeyPatch, translator: Translator) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE", "0")
    monkeypatch.setattr(loader, "_loaded", {})
    loaded = load_afresh()
    assert (loaded.origin, loaded.reason) == ("compiled", "the cache is off (STATICGRAPH_CACHE=0)")
    assert translator.calls[0][-1].startswith("<k_")


def test_what_cannot_be_kept_is_still_loaded(folder: Path, translator: Translator,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.Cache, "_replace", lambda *_: "not kept: the disk is full")
    loaded = load_afresh()
    assert loaded.code == MADE and loaded.reason == "no entry; not kept: the disk is full"


def test_nothing_is_remembered_of_a_kernel_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Translated:
        raise VerificationError("kernel 'scale' does not compile")

    monkeypatch.setattr(loader, "translate", fail)
    with pytest.raises(VerificationError) as caught:
        load_afresh()
    assert caught.value.__context__ is None     # the user has no use for a miss in the traceback
    assert not loader._loaded and not list(folder.glob("*.obj"))


def test_the_fingerprint_covers_the_language_and_its_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = loader.fingerprint.__wrapped__()
    assert usual == loader.fingerprint.__wrapped__() and len(usual) == 64
    seen = {usual}
    for patch in (lambda p: p.setenv("NUMBA_OPT", "1"),
                  lambda p: p.setattr(loader, "_installed", lambda: ["numba_cuda-0"]),
                  lambda p: p.setattr(loader.platform, "python_version", lambda: "0"),
                  lambda p: p.setattr(loader.Path, "read_bytes", lambda path: b"changed")):
        with monkeypatch.context() as context:
            patch(context)
            seen.add(loader.fingerprint.__wrapped__())
    assert len(seen) == 5
    names = {path.name for path in loader.sources()}
    assert {"language.py", "pointers.py", "translate.py", "emit.py", "vector_math.py"} <= names
    assert "driver.py" not in names, "machine code does not depend on how it is launched"


def test_the_language_stands_alone() -> None:
    """What the modules of the language import from this package is part of the language."""
    for name in loader.LANGUAGE:
        text = (Path(loader.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        siblings = {*re.findall(r"^from \.(\w+) import", text, re.M),
                    *(word for line in re.findall(r"^from \. import (.*)", text, re.M)
                      for word in re.findall(r"(\w+)(?: as \w+)?", line))}
        assert siblings <= set(loader.LANGUAGE), name


@needs_compiler
def test_versions_are_found_without_importing() -> None:
    from importlib.metadata import version

    found = dict(each.replace("_", "-").rsplit("-", 1) for each in loader._installed())
    for package in ("numba-cuda", "numba", "llvmlite", "numpy", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink"):
        assert found[package] == version(package)


PROGRAM = """
import json, sys
from staticgraph.runtime.cuda import loader
from staticgraph.compiler.program import Kernel, Launch
loaded = loader.load_kernel(Kernel(sys.argv[1], "", sys.stdin.read(), Launch(64, 64)), (9, 0))
heavy = [name for name in ("numba", "numba_cuda", "llvmlite", "cuda") if name in sys.modules]
print(json.dumps([loaded.origin, heavy, loaded.code.registers, loaded.code.symbol, loaded.code.cubin.hex()]))
"""


@needs_compiler
def test_a_warm_start_imports_no_compiler(folder: Path) -> None:
    def run() -> list[Any]:
        done = subprocess.run([sys.executable, "-c", PROGRAM, KERNEL.name], input=KERNEL.text, capture_output=True,
                              text=True, check=True, cwd=ROOT)
        result = json.loads(done.stdout)
        assert isinstance(result, list)
        return result

    cold, warm = run(), run()
    assert cold[:2] == ["compiled", ["numba", "numba_cuda", "llvmlite", "cuda"]]
    assert warm[:2] == ["cache", []] and warm[2:] == cold[2:]
    assert bytes.fromhex(warm[4]).startswith(b"\x7fELF")
