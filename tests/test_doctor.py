"""`staticgraph doctor`: what it finds, what it says of what is missing, and that nothing makes it fail."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from staticgraph.cli import main
from staticgraph.doctor import command, facts, text
from staticgraph.doctor.facts import Facts

GOOD: Facts = {
    "versions": {"staticgraph": "0.1.0", "python": "3.12.3", "numpy": "2.4.0"},
    "system": {"system": "Linux 6.1", "machine": "x86_64", "checkout": ""},
    "cpu": {"name": "A CPU", "llvm_name": "znver5", "cores": 16, "threads": 16, "vector_bits": 512,
            "features": ["avx2", "avx512f"]},
    "blas": {"name": "scipy-openblas", "version": "0.3.31"},
    "cache": {"folder": "/home/a/.cache/staticgraph", "entries": 3, "bytes": 4096, "remark": "", "writable": True},
    "driver": {"kernel_module": "NVRM version 580", "library": "/usr/lib/libcuda.so.580", "cuda": "13.0", "error": ""},
    "devices": {"found": [{"device": "cuda:0", "name": "NVIDIA H200", "compute_capability": [9, 0],
                           "multiprocessors": 132, "memory": 141 << 30}], "why_none": ""},
    "compiler": {"numba-cuda": {"version": "0.30.4", "file": ""},
                 "nvidia-nvvm": {"version": "13.0.88", "file": "/x/libnvvm.so.4"},
                 "nvidia-nvjitlink": {"version": "13.0.88", "file": "/x/libnvJitLink.so.13"},
                 "cuda-bindings": {"version": "13.5.0", "file": ""}},
    "cublaslt": {"version": "nvidia-cublas 13.0.2", "file": "/x/libcublasLt.so.13"},
    "cpu_works": {"ok": True, "why": "", "seconds": 0.5}, "compiler_works": {"ok": True, "why": "", "seconds": 0.5},
    "gpu_works": {"ok": True, "why": "", "seconds": 0.5},
}


def changed(**parts: Any) -> Facts:
    found = copy.deepcopy(GOOD)
    for key, value in parts.items():
        found[key] = {**found[key], **value}
    return found


NO_GPU = {"gpu_works": {"ok": False, "why": "there is no usable GPU"}}


def test_a_machine_where_all_is_well() -> None:
    assert text.problems(GOOD) == [] and text.usable_gpu(GOOD)
    shown = text.report(GOOD)
    assert "The CPU works" in shown and "The GPU works" in shown and "pip install" not in shown
    assert "cuda:0" in shown and "NVIDIA H200, compute capability 9.0, 132 multiprocessors, 141.0 GiB" in shown


def test_what_is_not_needed_is_told_with_the_line_that_installs_it() -> None:
    packages = {"scikit-learn": "1.9.1", "matplotlib": ""}
    extras = {"examples": {"install": 'pip install "staticgraph[examples]"', "packages": packages}}
    shown = text.report({**GOOD, "extras": extras})
    assert 'scikit-learn 1.9.1, matplotlib missing: pip install "staticgraph[examples]"' in shown
    packages["matplotlib"] = "3.11"
    assert "pip install" not in text.report({**GOOD, "extras": extras})
    assert {"viz", "bench", "examples", "bench's peers"} == set(facts.extras())


@pytest.mark.parametrize(("facts", "words"), [
    (changed(driver={"library": "", "error": "no such file"}, devices={"found": []}, **NO_GPU),
     ["no NVIDIA driver", "nvidia.com/drivers"]),
    (changed(devices={"found": [], "why_none": "the driver finds no GPU"}, **NO_GPU), ["the driver finds no GPU"]),
    (changed(devices={"found": [{**GOOD["devices"]["found"][0], "compute_capability": [7, 5]}]}),
     ["too old", "7.5", "8.0"]),
    (changed(compiler={"nvidia-nvvm": {"version": "", "file": ""}}, compiler_works={"ok": False, "why": "missing"}),
     ["nvidia-nvvm", 'pip install "staticgraph[cuda]"']),
    (changed(compiler={"nvidia-nvjitlink": {"version": "13.0.88", "file": ""}}),
     ["libnvJitLink.so", "pip install --force-reinstall nvidia-nvjitlink"]),
    (changed(compiler={"nvidia-nvvm": {"version": "13.5.1", "file": "/x"}}),
     ["CUDA 13.5", "CUDA 13.0", "a linker refuses what is newer", 'pip install "staticgraph[cuda]"']),
    (changed(driver={"cuda": "12.4"}), ["supports CUDA 12.4", "cannot load", "R580"]),
    (changed(compiler_works={"ok": False, "why": "libNVVM refuses it"}), ["do not work: libNVVM refuses it"]),
    (changed(gpu_works={"ok": False, "why": "wrong numbers"}), ["fails on the GPU: wrong numbers"]),
])
def test_what_is_wrong_and_what_to_do(facts: Facts, words: list[str]) -> None:
    (problem,) = text.problems(facts)
    shown = text.report(facts)
    assert all(word in problem for word in words) and f"1. {problem}" in shown
    assert "The GPU works" not in shown


def test_every_fact_may_be_missing() -> None:
    for name in GOOD:
        found = {**copy.deepcopy(GOOD), name: {"error": "OSError: broken"}}
        assert "Software" in text.report(found), name
        text.problems(found)


def test_nothing_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Facts:
        raise RuntimeError("cannot\nbe found out")

    for name in ("versions", "system", "cpu", "blas", "cache", "driver", "gpus", "compiler", "cublaslt"):
        monkeypatch.setattr(facts, name, broken)
    monkeypatch.setattr(facts, "works", lambda device: broken())
    found = facts.collect()
    assert found["cpu"] == {"error": "RuntimeError: cannot"} and "error" in found["cpu_works"]
    assert "THE CPU DOES NOT WORK" in text.report(found)


def test_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "facts.json"
    assert main(["doctor", "--json", str(place)]) == 0
    shown = capsys.readouterr().out
    assert "The CPU works" in shown and "numba-cuda" in shown
    found = json.loads(place.read_text())
    assert found["cpu"]["threads"] >= 1 and found["cache"]["writable"] and found["cpu_works"]["ok"]
    assert found["cuda_usable"] or found["problems"]


def test_json_instead_of_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "collect", lambda: copy.deepcopy(GOOD))
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cuda_usable"] is True


@pytest.mark.parametrize(("arguments", "message"), [
    (["--samples", "5"], "--samples belongs to --math"),
    (["--only", "suite"], "--only, --quick and --rehearse belong to --gpu-check"),
    (["--rehearse"], "belong to --gpu-check"),
    (["--math", "--gpu-check"], "two checks"),
    (["--math", "exp", "--json", "no/such/folder/a.json"], "there is no folder"),
    (["--json", "."], "it is a folder"),
])
def test_mistakes_are_refused_before_anything_runs(arguments: list[str], message: str,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    told = capsys.readouterr()
    assert message in told.err and not told.out


@pytest.mark.parametrize(("found", "arguments", "status"), [
    (GOOD, [], 0), (GOOD, ["--require-cuda"], 0),
    (changed(**NO_GPU), [], 0), (changed(**NO_GPU), ["--require-cuda"], 1),
    (changed(cpu_works={"ok": False, "why": "broken"}), [], 1),
])
def test_exit_status(found: Facts, arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "collect", lambda: copy.deepcopy(found))
    assert main(["doctor", *arguments]) == status


def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "doctor" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "--gpu-check" in capsys.readouterr().out and command.HELP


def test_a_program_that_gives_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    import staticgraph as sg

    monkeypatch.setattr(sg, "compile", lambda *arguments, **options: lambda x: x)
    assert facts.works("cpu")["why"] == "a small program gave wrong numbers"
