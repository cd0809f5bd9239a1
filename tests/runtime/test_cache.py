"""The object cache under every fault that a disk and its other users can bring about."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from staticgraph.runtime import cache
from staticgraph.runtime.cpu import loader
from staticgraph.runtime.driver import ASSEMBLY, RUN

ROOT = Path(__file__).resolve().parents[2]


class Maker:
    """Loads one cheap kernel; counts how often it had to be made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> loader.LoadedKernel:
        loader._loaded.clear()     # as a new process finds it
        return loader.link_cached("driver", ASSEMBLY, self.make)

    def make(self, key: str) -> loader.Compiled:
        self.made += 1
        return loader.linker().assemble(ASSEMBLY), RUN, ()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "some" / "cache"
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(folder))
    monkeypatch.setattr(loader, "_loaded", {})
    return folder


def only_entry(folder: Path) -> Path:
    (entry,) = folder.glob("*.obj")
    return entry


def test_second_load_comes_from_the_cache(folder: Path) -> None:
    load = Maker()
    first, second = load(), load()
    assert (first.origin, first.reason) == ("compiled", "no entry")
    assert (second.origin, second.reason) == ("cache", "")
    assert load.made == 1
    assert loader.link_cached("driver", ASSEMBLY, load.make).origin == "process"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_entry(folder).stat().st_mode) == 0o600
    assert [each.name for each in folder.iterdir()] == [only_entry(folder).name]


def replace_by_link(entry: Path) -> None:
    entry.rename(entry.with_suffix(".elsewhere"))
    entry.symlink_to(entry.with_suffix(".elsewhere"))


def replace_by_folder(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda entry: entry.write_bytes(change(entry.read_bytes())) and None


def header_of(content: bytes) -> dict[str, Any]:
    (length,) = cache.HEADER_LENGTH.unpack_from(content, 40)
    header = json.loads(content[44:44 + length])
    assert isinstance(header, dict)
    return header


def other_key(content: bytes) -> bytes:
    header = header_of(content)
    return cache._encode({**header, "key": "0" * 40}, cache._decode(content, header["key"]).payload)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (rewritten(lambda c: c[:-9] + bytes([c[-9] ^ 4]) + c[-8:]), "entry damaged: checksum differs"),
    "one bit of the header": (rewritten(lambda c: c[:60] + bytes([c[60] ^ 1]) + c[61:]),
                              "entry damaged: checksum differs"),
    "truncated": (rewritten(lambda c: c[:-100]), "entry damaged: checksum differs"),
    "truncated in the sum": (rewritten(lambda c: c[:20]), "entry damaged: not an entry of this version"),
    "empty": (rewritten(lambda c: b""), "entry damaged: not an entry of this version"),
    "another version": (rewritten(lambda c: b"sgkobj0\n" + c[8:]), "entry damaged: not an entry of this version"),
    "another key": (rewritten(other_key), "entry belongs to another kernel"),
    "not an object": (rewritten(lambda c: cache._encode({**header_of(c)}, b"")), "entry cannot be linked"),
    "writable by the group": (lambda entry: entry.chmod(0o620), "entry refused: others may write to it"),
    "writable by all": (lambda entry: entry.chmod(0o602), "entry refused: others may write to it"),
    "a link": (replace_by_link, "entry unreadable: Too many levels of symbolic links"),
    "a pipe": (replace_by_folder, "entry refused: not a plain file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_entries_are_made_again(folder: Path, fault: str) -> None:
    load = Maker()
    load()
    whole = only_entry(folder).read_bytes()
    damage, reason = FAULTS[fault]
    damage(only_entry(folder))
    again = load()
    assert again.origin == "compiled" and again.reason.startswith(reason)
    entry = only_entry(folder)
    assert not entry.is_symlink() and entry.read_bytes() == whole and stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert load().origin == "cache" and load.made == 2


def test_entries_of_another_user_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Maker()
    load()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    again = load()
    assert again.origin == "compiled" and again.reason.startswith("entry refused: owned by another user")


def refuse(error: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        raise OSError(error, os.strerror(error))
    return call


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("call", ["os.replace", "tempfile.mkstemp"])
def test_a_folder_that_cannot_be_written_costs_only_time(
        folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int) -> None:
    load = Maker()
    with monkeypatch.context() as patch:
        patch.setattr({"os": os, "tempfile": tempfile}[call.split(".")[0]], call.split(".")[1], refuse(error))
        loaded = load()
        assert loaded.origin == "compiled" and loaded.reason == f"no entry; not kept: {os.strerror(error)}"
    assert list(folder.iterdir()) == []
    load()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", refuse(error))
        assert load().origin == "cache"     # reading goes on


def test_a_disk_that_fills_up_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def full(descriptor: int, mode: str = "r", *rest: Any) -> Any:
        if mode != "wb":
            return real(descriptor, mode, *rest)
        os.close(descriptor)
        return open("/dev/full", "wb", buffering=0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        assert Maker()().reason == "no entry; not kept: No space left on device"
    assert list(folder.iterdir()) == []


def test_the_cache_can_be_turned_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE", "0")
    load = Maker()
    for _ in range(2):
        assert load().reason == "the cache is off (STATICGRAPH_CACHE=0)"
    assert load.made == 2 and not folder.exists()
    assert cache.info() == cache.Info(None, 0, 0, "the cache is off (STATICGRAPH_CACHE=0)")


def make_linked(folder: Path) -> None:
    target = folder.with_name("target")
    target.mkdir(parents=True, mode=0o700)
    folder.symlink_to(target)


def make_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("")


def make_open(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


@pytest.mark.parametrize(("prepare", "objection"), [
    (make_linked, "not a folder"), (make_file, "not a folder"), (make_open, "others may write to it"),
    (lambda folder: folder.parent.write_text("") and None, "File exists"),
])
def test_a_folder_that_cannot_be_trusted_is_not_used(
        folder: Path, prepare: Callable[[Path], None], objection: str) -> None:
    prepare(folder)
    load = Maker()
    assert load().origin == "compiled" and load().origin == "cache"
    used = cache.info()
    assert used.remark == f"{folder} cannot be used: {objection}; a private temporary folder is used"
    assert used.folder is not None and used.entries == 1
    assert stat.S_IMODE(used.folder.stat().st_mode) == 0o700
    assert not folder.is_dir() or list(folder.iterdir()) == []


def test_a_folder_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    real, other = os.lstat, os.getuid() + 1
    monkeypatch.setattr(os, "lstat", lambda path: os.stat_result((*real(path)[:4], other, *real(path)[5:])))
    assert "owned by another user; a private temporary folder" in cache.info().remark


def test_the_private_folder_goes_with_its_process(folder: Path) -> None:
    make_open(folder)
    code = "from staticgraph.runtime import cache; print(cache.current().write('k', {}, b'') or cache.info().folder)"
    private = Path(python(code, STATICGRAPH_CACHE_DIR=str(folder)))
    assert private.name.startswith("staticgraph-") and not private.exists()


def test_a_folder_that_vanishes_is_made_again(folder: Path) -> None:
    load = Maker()
    load()
    only_entry(folder).unlink()
    folder.rmdir()
    assert load().origin == "compiled" and load().origin == "cache"


@pytest.mark.parametrize(("environment", "expected"), [
    ({"STATICGRAPH_CACHE_DIR": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
    ({"XDG_CACHE_HOME": "/c"}, "/c/staticgraph"),
    ({}, str(Path.home() / ".cache" / "staticgraph")),
])
def test_where_the_cache_is(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(cache.default_folder(environment)) == expected


def test_where_the_cache_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.default_folder({}) == Path.home() / "Library" / "Caches" / "staticgraph"
    monkeypatch.setattr(sys, "platform", "win32")
    assert cache.default_folder({"LOCALAPPDATA": "/l"}) == Path("/l/staticgraph")


def test_info_and_clear(folder: Path) -> None:
    Maker()()
    store = cache.current()
    store.write_text("a" * 40, "text")
    (folder / "notes.txt").write_text("mine")
    for name, age in ((".new-left", 2 * cache.ABANDONED_AFTER), (".new-writing", 0)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    entry = only_entry(folder)
    assert cache.info() == cache.Info(folder, 1, entry.stat().st_size + 4, "")
    assert cache.clear() == 1
    assert sorted(each.name for each in folder.iterdir()) == [".new-writing", "notes.txt"]
    assert cache.info().entries == 0


def test_the_oldest_half_goes_when_there_is_too_much(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = cache.current()
    for age in range(10):
        assert store.write(f"key{age}", {}, b"x" * 10_000) == ""
        os.utime(folder / f"k_key{age}.obj", (time.time() - age,) * 2)
    kept = cache.info().nbytes
    store.prune(kept)
    assert cache.info().entries == 10
    monkeypatch.setattr(cache, "LIMIT_BYTES", kept - 1)
    assert cache.Cache(folder).write("new", {}, b"") == ""
    assert sorted(each.stem for each in folder.iterdir()) == [*(f"k_key{age}" for age in range(5)), "k_new"]


def test_headers_and_payloads_survive(folder: Path) -> None:
    store = cache.current()
    for payload in (b"", b"\0\n}{", os.urandom(5000)):
        assert store.write("k", {"symbol": "naïve\n", "imports": ["a", "b"]}, payload) == ""
        entry = store.read("k")
        assert entry.payload == payload and entry.header == {"key": "k", "symbol": "naïve\n", "imports": ["a", "b"]}
    with pytest.raises(cache.CacheMiss, match="no entry"):
        store.read("other")


def python(code: str, **environment: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
                         env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_processes_side_by_side(folder: Path) -> None:
    """All write and read the same entries, over and over, while one of them clears."""
    code = """if True:
        import sys
        from staticgraph.runtime import cache
        store = cache.current()
        kept = 0
        for turn in range(300):
            key = f"key{turn % 7}"
            assert store.write(key, {"turn": turn}, key.encode() * 5000) == ""
            if sys.argv[0] and turn % 50 == 0: store.clear()
            try:
                kept += store.read(key).payload == key.encode() * 5000
            except cache.CacheMiss as miss:
                assert str(miss) == "no entry", miss
        print(kept)
    """
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(int(output) > 100 for output in outputs)
    assert not list(folder.glob(".new-*"))


WARM = """if True:
    import sys
    import numpy as np
    from tests.runtime.programs import add_one_program
    from staticgraph.runtime.executable import load
    executable = load(add_one_program())
    assert np.array_equal(executable(np.zeros((2, 3), "float32")), np.ones((2, 3)))
    print([kernel.origin for kernel in executable._kernels],
          [name for name in ("numba", "staticgraph.runtime.cpu.language") if name in sys.modules])
"""


def test_a_warm_process_compiles_nothing(folder: Path) -> None:
    environment = {"STATICGRAPH_CACHE_DIR": str(folder)}
    assert python(WARM, **environment) == "['compiled'] ['numba', 'staticgraph.runtime.cpu.language']"
    assert python(WARM, **environment) == "['cache'] []"
    assert python(WARM, **environment, NUMBA_LOOP_VECTORIZE="0").startswith("['compiled']")     # another key
