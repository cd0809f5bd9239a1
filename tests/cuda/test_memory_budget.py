"""A budget of memory on CUDA: steps that run again, on the simulated device."""

from __future__ import annotations

import numpy as np

import staticgraph as sg
from tests.cuda.simulate import compile_simulated


def test_steps_that_run_again_change_no_bit() -> None:
    rng = np.random.default_rng(0)
    x = sg.placeholder("x", (8, 4))
    parameters = [sg.variable((rng.standard_normal((4, 4)) / 2).astype("float32")) for _ in range(4)]
    generator = sg.random.generator(3)
    hidden = x
    for parameter in parameters:
        hidden = sg.nn.dropout(sg.tanh(hidden @ parameter), 0.2, generator)
    outputs = [sg.mean(hidden * hidden), *sg.grad(sg.mean(hidden * hidden), parameters)]
    plain = compile_simulated([x], outputs)
    written = sum(int(str(buffer.nbytes)) for buffer in plain.program.buffers if buffer.place == "output")
    smaller = compile_simulated([x], outputs, options={
        "memory_budget": int(str(plain.program.arena_bytes)) + written - 300})
    assert len(smaller.program.steps) > len(plain.program.steps)
    data = rng.standard_normal((8, 4)).astype("float32")
    want = plain(data)
    generator.state = {"seed": 3, "counter": 0}
    for got, expected in zip(smaller(data), want, strict=True):
        np.testing.assert_array_equal(got, expected)
