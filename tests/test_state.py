"""sg.save and sg.load: names, formats, all or nothing, training that goes on as if it had never stopped, bad files."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.state import name_entries

SUFFIXES = (".safetensors", ".npz")
ARRAYS = {
    "half": np.array([1.5, -0.0, np.inf], "float16"), "flags": np.array([[True, False], [False, True]]),
    "scalar": np.array(3.25), "empty": np.zeros((0, 7), "int8"),
    "ümläut 漢字 \U0001f600/..\\x": np.arange(5, dtype="uint16"),
    "big": np.arange(3, dtype=">f4"), "view": np.arange(12).reshape(3, 4).T, "word": np.uint64(2**64 - 1),
    "nan": np.array([np.nan, -np.nan], "float32"), "{0.__class__}\n'\"": np.int32(-1), "a.b": np.arange(2, dtype="u4"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays_come_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"state{suffix}"
    sg.save(path, ARRAYS, {"note": "ü\n"})
    found = sg.load(path)
    assert set(found) == set(ARRAYS) and found.metadata == {"note": "ü\n"}
    for name, array in ARRAYS.items():
        native = np.asarray(array).astype(np.asarray(array).dtype.newbyteorder("="))
        assert found[name].dtype == native.dtype and found[name].shape == native.shape
        assert found[name].tobytes() == native.tobytes() and found[name].flags.writeable
    first = path.read_bytes()
    sg.save(path, ARRAYS, {"note": "ü\n"})
    assert path.read_bytes() == first and os.listdir(tmp_path) == [path.name]


def test_files_are_what_others_read_and_write(tmp_path: Path) -> None:
    sg.save(tmp_path / "a.npz", {"w": np.arange(6.0).reshape(2, 3)}, {"k": "v"})
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["w"] and archive["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    np.savez_compressed(tmp_path / "b.npz", w=np.asfortranarray(np.arange(6).reshape(2, 3)))
    assert sg.load(tmp_path / "b.npz")["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    safetensors = pytest.importorskip("safetensors.numpy")
    sg.save(tmp_path / "a.safetensors", {"w": np.arange(6.0).reshape(2, 3), "b": np.array(True)})
    assert safetensors.load_file(tmp_path / "a.safetensors")["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    safetensors.save_file({"h": np.ones(3, "float16")}, tmp_path / "c.safetensors", {"made": "elsewhere"})
    found = sg.load(tmp_path / "c.safetensors")
    assert found["h"].tolist() == [1, 1, 1] and found.metadata == {"made": "elsewhere"}


def model_of(seed: int) -> tuple[Any, Any, Any]:
    """A network with dropout, its optimizer, and what draws for it."""
    noise = sg.random.generator(seed, name="noise")
    model = sg.nn.Sequential(sg.nn.Linear(6, 5, generator=seed), sg.nn.ReLU(), sg.nn.Dropout(0.3, noise),
                             sg.nn.Linear(5, 1, generator=seed + 1, name="last"))
    return model, sg.optim.Adam(lr=lambda count: 0.01 / (1 + 0.1 * count)), noise


def test_names_come_from_structure() -> None:
    model, optimizer, noise = model_of(0)
    optimizer.updates(sg.mean(model(np.ones((2, 6), "float32"))), model.parameters())
    names = list(name_entries({"net": model, "optimizer": optimizer, "more": [noise, model, 3.5]}))
    assert names[:6] == ["net.0.weight", "net.0.bias", "net.2.generator.seed", "net.2.generator.counter",
                         "net.3.weight", "net.3.bias"]
    assert "optimizer.count" in names and "optimizer.linear.weight.mean" in names and names[-1] == "more.2"
    assert len(names) == 6 + 1 + 8 + 1     # what stands in several places is saved once
    w, b = sg.variable(np.zeros(2), "w"), sg.variable(np.zeros(2))
    assert list(name_entries([w, b])) == ["w", "1"] and list(name_entries(w)) == ["w"]
    rate = sg.variable(np.float64(0.1), "rate")
    momentum = sg.optim.SGD(rate, momentum=0.9)
    momentum.updates(sg.sum(b) + sg.sum(w), [w, b])
    assert list(name_entries(momentum)) == ["w.momentum", "1.momentum", "lr"]


def test_state_that_cannot_be_named() -> None:
    w, v = sg.variable(np.zeros(2), "w"), sg.variable(np.zeros(3), "w")
    with pytest.raises(sg.ArgumentError, match=r"called 'w'\n.*float64\[2\].*test_state.*\n.*float64\[3\].*test_state"):
        name_entries([w, v])
    for bad in ({"a": {"b": w}, "a.b": v}, sg.placeholder("x", (2,)), {"a": "text"}, None, {"": 1.0}, {"a\ud800": w},
                [w + 1]):
        with pytest.raises(sg.ArgumentError):
            name_entries(bad)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_training_goes_on_as_if_it_had_never_stopped(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"run{suffix}"
    x = np.linspace(-1, 1, 24, dtype="float32").reshape(4, 6)

    def make(seed: int) -> tuple[Any, Callable[..., Any]]:
        model, optimizer, noise = model_of(seed)
        batch = sg.placeholder("batch", ("n", 6))
        loss = sg.mean(sg.square(model(batch) - 1))
        step = sg.compile([batch], loss, updates=optimizer.updates(loss, model.parameters()))
        return {"model": model, "optimizer": optimizer, "noise": noise}, step

    state, step = make(0)
    for _ in range(3):
        step(x)
    sg.save(path, state)
    expected = [step(x).tobytes() for _ in range(4)]
    other, again = make(7)     # as in another process: other values until they are loaded
    sg.load(path, into=other)
    assert [again(x).tobytes() for _ in range(4)] == expected
    for name, entry in name_entries(state).items():
        assert entry.value.tobytes() == name_entries(other)[name].value.tobytes(), name
    sg.save(path, again)     # an executable is all of its variables
    values = sg.load(path, into=again)
    assert {"noise.counter", "adam.count", "last.bias", "last.bias.spread"} < set(values)


def test_what_does_not_fit_is_told_and_nothing_is_assigned(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    sg.save(path, {"a": np.ones(2), "b": np.ones(3, "float32"), "c": np.ones(4), "spare\n": np.ones(1)})
    a, b, c, d = (sg.variable(np.zeros(size), name) for size, name in ((2, "a"), (3, None), (5, "see"), (6, "d")))
    with pytest.raises(sg.StateError) as caught:
        sg.load(path, into={"a": a, "b": b, "c": c, "d": d})
    text = str(caught.value)
    for part in ("m.npz' does not fit; nothing was assigned", "b: ",
                 "float32[3] in the file, the variable is float64[3]",
                 "float64[4] in the file, the variable is float64[5]", "'see'", "test_state.py:",
                 "not in the file, the variable is float64[6]", "'spare\\n': no variable for it", "strict=False"):
        assert part in text, text
    assert not a.value.any()
    with pytest.raises(sg.StateError):
        sg.load(path, into={"a": a, "c": c}, strict=False)     # shapes are held to all the same
    assert not a.value.any()
    sg.load(path, into={"a": a, "d": d}, strict=False)
    assert a.value.all() and not d.value.any()
    with pytest.raises(sg.ArgumentError, match="'n' is an array"):
        sg.load(path, into={"a": a, "n": 3})


def test_the_newest_value_is_saved_and_copies_expire(tmp_path: Path) -> None:
    """As on a device: a copy that is newer than the array, until a load overwrites it."""

    class Copy:
        expired = False

        def download(self, array: np.ndarray[Any, Any]) -> None:
            array[...] = 7

        def expire(self) -> None:
            self.expired = True

    w, copy = sg.variable(np.zeros(3), "w"), Copy()
    w._state.newest, w._state.copies["gpu"] = copy, copy
    sg.save(tmp_path / "w.npz", w)
    assert sg.load(tmp_path / "w.npz")["w"].tolist() == [7, 7, 7]
    sg.load(tmp_path / "w.npz", into=w)
    assert copy.expired and w._state.newest is None and w.value.tolist() == [7, 7, 7]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.npz"
    sg.save(path, {"w": np.ones(2)})
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="full"):
        sg.save(path, {"w": np.zeros(2)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["w.npz"]


def test_links_stay_and_modes_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.npz", tmp_path / "link.npz"
    sg.save(real, {"w": np.ones(1)})
    assert real.stat().st_mode & 0o777 == 0o666 & ~_umask()
    real.chmod(0o640)
    link.symlink_to(real)
    sg.save(link, {"w": np.zeros(1)})
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640 and not sg.load(real)["w"].any()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_arguments() -> None:
    with pytest.raises(sg.ArgumentError, match=r"suffix of 'a\.pt'"):
        sg.save("a.pt", {"w": 1.0})
    with pytest.raises(sg.ArgumentError, match=r"none of \.safetensors, \.npz"):
        sg.load("a.pickle")
    with pytest.raises(FileNotFoundError):
        sg.load("there/is/no.npz")
    with pytest.raises(sg.ArgumentError, match="metadata are texts"):
        sg.save("a.npz", {"w": 1.0}, {"epoch": 3})  # type: ignore[dict-item]
    with pytest.raises(sg.ArgumentError, match="no dtype of numbers"):
        sg.save("a.npz", {"w": np.array([None])})
    with pytest.raises(sg.ArgumentError, match="cannot be the name"):
        sg.save("a.npz", {"w\0x": 1.0})
    with pytest.raises(sg.ArgumentError, match="__metadata__"):
        sg.save("a.safetensors", {"__metadata__": 1.0})
    with pytest.raises(sg.ArgumentError, match="metadata of"):
        sg.save("a.npz", {"w": 1.0}, {"long": "x" * 70000})


def test_a_mistake_is_told_in_the_words_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w = sg.variable(np.ones(2), "w")
    with pytest.raises(sg.ArgumentError, match=r"save: the path comes first, save\(path, state\)"):
        sg.save({"w": w}, "a.npz")  # type: ignore[arg-type]
    step = sg.compile([], w * 2)
    calls: list[Callable[[], Any]] = [lambda: sg.load(w), lambda: sg.save_graph(step, "a.json"),  # type: ignore[arg-type]
                                      lambda: sg.load_graph(w), lambda: step.dump(np.ones(2))]  # type: ignore[arg-type]
    for call in calls:
        with pytest.raises(sg.ArgumentError, match=r"^(load|save_graph|load_graph|dump): the path comes first"):
            call()
    with pytest.raises(sg.ArgumentError, match=r"a str \('name'\) is no state; texts go into the metadata"):
        sg.save(tmp_path / "a.npz", {"w": w, "name": "text"})
    (tmp_path / "half.safetensors").write_bytes(BAD_SAFETENSORS["a dtype that NumPy lacks"])
    with pytest.raises(sg.FileFormatError, match=r"half\.safetensors': 'w' has the dtype BF16.*convert it to F32"):
        sg.load(tmp_path / "half.safetensors")
    sg.save(tmp_path / "a.npz", w)
    with pytest.raises(sg.ArgumentError, match=r"^load: only variables have a value"):
        sg.load(tmp_path / "a.npz", into=[w * 2])

    with pytest.raises(sg.StateError, match=r"no name is in both, the file has 'w', the variables are 'model.w'"):
        sg.load(tmp_path / "a.npz", into={"model": {"w": w}}, strict=False)

    def refuse(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".random"))

    for path, kind in ((tmp_path / "none" / "b.npz", FileNotFoundError), (tmp_path / "b.npz", PermissionError)):
        if kind is PermissionError:
            monkeypatch.setattr(tempfile, "mkstemp", refuse)
        with pytest.raises(kind) as caught:
            sg.save(path, w)
        assert caught.value.filename == str(path)     # not the name that it would have had meanwhile


def test_variables_of_an_executable_are_told_apart(tmp_path: Path) -> None:
    def build(seed: int) -> tuple[Any, Any]:
        model = sg.nn.Sequential(sg.nn.Linear(3, 3, generator=seed), sg.nn.Linear(3, 3, generator=seed + 1))
        x = sg.placeholder("x", ("n", 3))
        return model, sg.compile([x], model(x))

    (_, one), (model, other) = build(0), build(2)
    sg.save(tmp_path / "step.npz", one)
    sg.save_graph(tmp_path / "step.json", one)
    names = list(sg.load(tmp_path / "step.npz", into=other))
    assert len(names) == 4 and {name.rpartition(".")[0] for name in names} == {"linear.weight", "linear.bias"}
    x = np.arange(6, dtype="float32").reshape(2, 3)
    assert other(x).tobytes() == one(x).tobytes() and model.layers[0].weight.value.any()
    graph = sg.load_graph(tmp_path / "step.json")
    assert list(name_entries(graph)) == names and set(graph.variables) == set(names)


# Files that are not what they should be


def safetensors(header: Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BAD_SAFETENSORS = {
    "nothing": b"", "short": b"\x08", "a header longer than the file": (2**60).to_bytes(8, "little") + b"{}",
    "no json": safetensors(b"{]"), "no object": safetensors([]), "no text": safetensors(b"\xff\xfe"),
    "nan": safetensors(b'{"__metadata__": NaN}'), "deep": safetensors(b"[" * 100000),
    "a number of 10,000 digits": safetensors(b'{"w": ' + b"9" * 10000 + b"}"),
    "no entry": safetensors({"w": 3}), "a dtype of objects": safetensors({"w": entry("O")}, b"1234"),
    "a dtype that NumPy lacks": safetensors({"w": entry("BF16", (2,))}, b"1234"),
    "50 GB in a kilobyte": safetensors({"w": entry(shape=[12_500_000_000], offsets=[0, 50_000_000_000])}),
    "too few bytes": safetensors({"w": entry(shape=[2], offsets=[0, 4])}, b"1234"),
    "negative": safetensors({"w": entry(shape=[-1], offsets=[4, 0])}, b"1234"),
    "bools for sizes": safetensors({"w": entry(shape=[True])}, b"1234"),
    "floats for sizes": safetensors({"w": entry(shape=[1.0])}, b"1234"),
    "absurd and empty": safetensors({"w": entry(shape=[0, 2**62, 2**62], offsets=[0, 0])}),
    "overlaps": safetensors({"v": entry(), "w": entry()}, b"1234"),
    "holes": safetensors({"v": entry(), "w": entry(offsets=[8, 12])}, b"1" * 12),
    "more than its entries": safetensors({"w": entry()}, b"12345678"),
    "twice": safetensors(b'{"w": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "w": {}}', b"1234"),
    "metadata that is no text": safetensors({"__metadata__": {"a": 3}}),
    "neither true nor false": safetensors({"w": entry("BOOL", (1,), (0, 1))}, b"\x02"),
    "half a surrogate": safetensors(b'{"\\ud800": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "newer": safetensors({"__metadata__": {"staticgraph.state": "2"}}),
}


def npz(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), **options)
    return file.getvalue()


class Dangerous:
    """Whoever unpickles it makes a file."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


LARGE = npy(np.zeros(3)).replace(
    b"'shape': (3,), }         ", b"'shape': (6250000000,), }")
WHOLE = npz(("w.npy", npy(np.arange(40.0))))
BAD_NPZ = {
    "nothing": b"", "no archive": b"PK\3\4 and no more", "cut": WHOLE[:-30], "a pickle": pickle.dumps({"w": 1}),
    "objects": npz(("w.npy", npy(np.array([Dangerous()], object), allow_pickle=True))),
    "a member that is a pickle": npz(("w.npy", pickle.dumps(Dangerous()))),
    "no array": npz(("w.txt", b"text")), "50 GB in a kilobyte": npz(("w.npy", LARGE)),
    "more than it says": npz(("w.npy", npy(np.zeros(3)) + b"more")),
    "a bomb": npz(("w.npy", npy(np.zeros(2**26))), compression=zipfile.ZIP_DEFLATED),
    "changed": WHOLE.replace(npy(np.arange(40.0))[-8:], b"12345678", 1),
    "text": npz(("w.npy", npy(np.array(["text"])))), "records": npz(("w.npy", npy(np.zeros(2, "i4,f4")))),
    "a header that is code": npz(("w.npy", npy(np.zeros(3)).replace(b"'shape': (3,), }", b"'shape': exit() }"))),
}


@pytest.mark.parametrize("name", BAD_SAFETENSORS)
def test_bad_safetensors(name: str, tmp_path: Path) -> None:
    refuse(tmp_path / "bad.safetensors", BAD_SAFETENSORS[name])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [*BAD_NPZ, "twice"])
def test_bad_npz(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = BAD_NPZ.get(name) or npz(("w.npy", npy(1.0)), ("w.npy", npy(2.0)))
    refuse(tmp_path / "bad.npz", content)
    assert os.listdir(tmp_path) == ["bad.npz"]


def refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(sg.FileFormatError, match=r"bad\.(npz|safetensors)"):
        sg.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_refused_or_read(suffix: str, tmp_path: Path) -> None:
    """Some thousand damages of one file: FileFormatError or arrays, in bounded memory and time."""
    path = tmp_path / f"f{suffix}"
    sg.save(path, {"w": np.arange(6.0), "flags": np.array([True, False]), "s": np.float32(1)}, {"k": "v"})
    whole, chance, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(1500):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(content))
            kind = chance.randrange(4)
            if kind == 0:
                content[at] = chance.randrange(256)
            elif kind == 1:
                del content[at:at + chance.choice((1, 4, 50))]
            elif kind == 2:
                content[at:at] = chance.choice((b"9", b"\xff" * 8, b"{", b"[[", content[:20]))
            else:
                content[at] ^= 1 << chance.randrange(8)
            if not content:
                break
        path.write_bytes(content)
        try:
            found = sg.load(path)
            assert all(isinstance(each, np.ndarray) and each.dtype.kind in "biuf" for each in found.values())
        except sg.FileFormatError:
            refused += 1
    assert 500 < refused < 1500
