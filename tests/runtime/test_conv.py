"""The leaves of convolutions: every vector width gives the same meaning, and sums stay in registers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.render.cpu_conv import gather_tiles_of, render_conv, render_conv_weights, tiles_of
from staticgraph.compiler.target import Target
from staticgraph.runtime.cpu import front_end, host
from staticgraph.runtime.cpu.objects import linker
from tests.compiler.compare import check, ordinary

FLOATS = ("float32", "float64")


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_every_vector_width(vector_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of another target also runs here: LLVM splits vectors that are too wide."""
    target = replace(host.host_target(), vector_bytes=vector_bytes)
    monkeypatch.setattr(host, "host_target", lambda: target)
    dtype = FLOATS[vector_bytes == 32]
    outputs, feed = {}, {}
    for name, image, weights, given in (
            ("steps", (2, 3, 9, 21), (17, 3, 3, 2), {"stride": 2, "padding": 1}),
            ("narrow", (3, 5, 4, 4), (9, 5, 3, 3), {"padding": 1}),
            ("wide", (1, 2, 3, 150), (1, 2, 2, 5), {"stride": (1, 3)})):
        x, w = sg.placeholder(f"x {name}", image, dtype), sg.placeholder(f"w {name}", weights, dtype)
        y = sg.conv2d(x, w, **given)
        ct = sg.placeholder(f"ct {name}", y.shape, dtype)
        outputs |= dict(zip((f"y {name}", f"dx {name}", f"dw {name}"), (y, *sg.vjp([y], [x, w], [ct]))))
        feed |= {x: ordinary(dtype, image), w: ordinary(dtype, weights, 1), ct: ordinary(dtype, y.shape, 2)}
    check(outputs, feed, relative=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_tiles_fit_the_registers(dtype: str) -> None:
    for vector_bytes, registers in ((16, 16), (32, 16), (64, 32)):
        target = Target(vector_bytes=vector_bytes)
        for outputs in (1, 16, 17, 40, 64, 65, 96, 513):
            for tiles in (tiles_of(dtype, target), gather_tiles_of(dtype, outputs, target)):
                assert tiles.height * tiles.vectors + tiles.vectors + 1 <= registers
                assert tiles.lanes * np.dtype(dtype).itemsize == vector_bytes
            panels = -(-outputs // (tiles.vectors * tiles.lanes))
            assert panels * tiles.vectors * tiles.lanes < outputs + panels * tiles.lanes     # hardly a lane in vain


def test_the_texts_are_for_our_own_front_end_and_their_sums_stay_in_registers() -> None:
    target = host.host_target()
    for name, text in (render_conv("float32", target), render_conv_weights("float32", 64, target)):
        code = front_end.emit(text, name, "kernel")     # Numba is not needed
        assert "double" not in code
        if target.vector_bytes != 64:
            continue
        assembly = linker().list_code(code)
        tile = "window_tile_8x3x16_32" if name == "conv_float32" else "gather_tile_6x4x16_32"
        body = assembly.split(f"\n{tile}:")[1].split(".cfi_endproc")[0]
        loops = [block.splitlines() for block in re.split(r"^\.?L\w+:", body, flags=re.MULTILINE)]
        loop = max(loops, key=lambda block: sum("fmadd" in line for line in block))
        assert sum("fmadd" in line for line in loop) == 24
        assert not [line for line in loop if "zmm" in line and "(%rsp" in line]
