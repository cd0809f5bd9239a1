"""Samples in kernels: the interpreter's bits, whatever a sample is fused into, for any chunk; and what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph import api
from staticgraph.op import registry
from staticgraph.ops.random import random_bits
from staticgraph.tensor import Tensor, toposort
from tests.compiler.compare import agree, ordinary
from tests.compiler.test_fusion import kernels
from tests.compiler.test_machine_code import run_in_chunks
from tests.kernel_harness import compile_kernel, elementwise_kernel
from tests.ops import philox

Array = np.ndarray[Any, Any]
Samples = Callable[[sg.random.Generator, Tensor], Mapping[str, Tensor]]


def check(build: Samples, *shapes: tuple[int, ...], exact: bool = True, dtype: str = "float32") -> sg.Executable:
    """Compile what `build` makes for a matrix x; hold three calls for each shape to the interpreter: the same draws,
    and with `exact` the same bits."""
    g = sg.random.generator(17)
    x = sg.placeholder("x", ("n", "m"), dtype)
    outputs = dict(build(g, x))
    step = sg.compile([x], outputs)
    meant = dict(zip(outputs, sg.stabilise(list(outputs.values())), strict=True))
    for shape in shapes or ((7, 12), (1, 1), (0, 3), (3, 0), (40, 33)):
        values = ordinary(dtype, shape)
        for _ in range(3):
            expected = sg.evaluate(meant, {x: values})
            actual = step(values)
            for name, value in expected.items():
                agree(actual[name], value, f"{name} of {shape}", relative=not exact)
    return step


# The same words.

@pytest.mark.parametrize(("counter", "key", "block"), philox.VECTORS)
def test_the_published_vectors(counter: tuple[int, ...], key: tuple[int, ...], block: tuple[int, ...]) -> None:
    index = sg.placeholder("index", ("n",), "uint64")
    seed, count, stream = (sg.placeholder(name, (), "uint64") for name in ("seed", "counter", "stream"))
    words = sg.compile([index, seed, count, stream], random_bits(index, seed, count, stream))
    numbers = np.array([4 * counter[0] + place for place in range(4)], np.uint64)
    result = words(numbers, np.uint64(key[0] | key[1] << 32), np.uint64(counter[2] | counter[3] << 32),
                   np.uint64(counter[1]))
    assert result.dtype == np.uint32 and result.tolist() == list(block)


def test_words_of_any_operands() -> None:
    rng = np.random.default_rng(2)
    operands = [rng.integers(0, high, 500, "uint64") for high in (2**51, 2**64 - 1, 2**48, 2**32)]
    tensors = [sg.placeholder(name, ("n",), "uint64") for name in ("index", "seed", "counter", "stream")]
    result = sg.compile(tensors, random_bits(*tensors))(*operands)
    assert result.tolist() == [philox.word(*each) for each in zip(*operands, strict=True)]


@pytest.mark.parametrize("kinds", [("int64",) * 4, ("uint64",) * 4, ("int32", "int64", "uint32", "int8")])
def test_the_function_takes_any_integers(kinds: tuple[str, ...]) -> None:
    operands = [np.arange(1, 6, dtype=kind) * (7 * place + 3) for place, kind in enumerate(kinds)]
    kernel = elementwise_kernel("philox(a, b, c, d)", kinds, "uint32", ("philox",))
    result = np.empty(5, np.uint32)
    kernel([*operands, result], 5)
    assert result.tolist() == [philox.word(*map(int, each)) for each in zip(*operands, strict=True)]


def test_the_function_takes_integers_only() -> None:
    with pytest.raises(Exception, match="philox: operands of types"):
        elementwise_kernel("philox(a, b, c, d)", ("int64", "float64", "int64", "int64"), "uint32", ("philox",))


# The same samples.

def test_distributions() -> None:
    def build(g: sg.random.Generator, x: Tensor) -> dict[str, Tensor]:
        n, m = x.shape
        p = sg.abs(x) / (1 + sg.abs(x))
        return {"bits": g.bits(x.shape), "wide": g.bits((m, n), "uint64"), "uniform": g.uniform(x.shape),
                "double": g.uniform(x.shape, dtype="float64"), "between": g.uniform(x.shape, -3, 2.5),
                "low": g.uniform(x.shape, x - 1, x), "bernoulli": g.bernoulli(x.shape, 0.3),
                "of tensor": g.bernoulli(x.shape, p), "integers": g.integers(x.shape, -5, 9),
                "small": g.integers(x.shape, 0, 256, "uint8"), "all": g.integers(x.shape, -2**63, 2**63),
                "far": g.integers((n,), 0, 2**45), "below": g.integers((3, 4), n + 1), "scalar": g.uniform(()),
                "one": g.integers((1, 1), 7), "dropout": sg.nn.dropout(x, 0.25, g)}

    check(build)


def test_normal_samples() -> None:
    check(lambda g, x: {"single": g.normal(x.shape), "double": g.normal(x.shape, dtype="float64"),
                        "moved": g.normal(x.shape, x, 2), "scaled": g.normal(x.shape, -1, sg.square(x)),
                        "static": g.normal((3, 5, 7), 2, 0)}, exact=False)


def test_permutations() -> None:
    check(lambda g, x: {"rows": g.permutation(x), "columns": g.permutation(x, axis=1),
                        "numbers": g.permutation(x.shape[0] * x.shape[1]), "static": g.permutation(1000)})


def test_samples_under_views() -> None:
    """Element i is element i, in whatever order a kernel goes through the sample."""
    def build(g: sg.random.Generator, x: Tensor) -> dict[str, Tensor]:
        n, m = x.shape
        mask, cube = g.bernoulli((m, n), 0.5), g.uniform((2, n, m))
        row, column = g.uniform((m,)), g.uniform((n, 1))
        return {"transposed": sg.where(mask.T, x, 0), "both": sg.where(mask, x.T, 0), "kept": mask,
                "rows": x * row, "columns": x * column, "flipped": sg.flip(g.uniform(x.shape)) * x,
                "reshaped": sg.reshape(g.uniform((n * m,)), (n, m)) + x,
                "flat": sg.reshape(x * g.uniform(x.shape), (-1,)), "cube": cube * x,
                "permuted": sg.permute_dims(cube, (2, 0, 1)) + 0, "slice": g.uniform(x.shape)[1:, ::2],
                "stretched": sg.broadcast_to(g.uniform((1, m)), (n, m)) * x, "unit": g.uniform((n, 1, m))[:, 0] + x}

    check(build, (7, 12), (1, 1), (40, 33), (2, 100))


def test_samples_in_reductions() -> None:
    def build(g: sg.random.Generator, x: Tensor) -> dict[str, Tensor]:
        noise = g.integers(x.shape, -100, 100, "int32")
        return {"rows": sg.sum(noise, 1), "columns": sg.sum(noise, 0), "all": sg.sum(g.integers(x.shape, 9)),
                "best": sg.argmax(sg.where(g.bernoulli(x.shape), x, -9), 1),
                "any": sg.any(g.bernoulli(x.shape, 0.1), 0), "wide": sg.max(g.bits(x.shape, "uint64"), 1),
                "spread": noise - sg.max(noise, 1, keepdims=True)}

    check(build, (7, 12), (1, 1), (40, 700), (700, 3))


def test_noise_in_a_softmax_and_in_a_norm() -> None:
    check(lambda g, x: {"softmax": sg.nn.softmax(sg.nn.dropout(x, 0.1, g)),
                        "norm": sg.nn.layer_norm(x + sg.nn.dropout(x * x, 0.5, g)),
                        "columns": sg.nn.softmax(x + g.uniform(x.shape), 0)}, (7, 12), (40, 700), exact=False)


def test_samples_as_operands_of_everything() -> None:
    def build(g: sg.random.Generator, x: Tensor) -> dict[str, Tensor]:
        n, m = x.shape
        noise = g.uniform((m, 5))
        return {"product": x @ noise, "joined": sg.concat([x, g.uniform(x.shape)], 0), "padded": sg.pad(
                    g.uniform(x.shape), ((1, 0), (0, 2))), "picked": sg.take(x, g.integers((4,), n), 0),
                "sorted": sg.sort(g.uniform(x.shape), 0), "summed": sg.cumulative_sum(g.integers(x.shape, 5), 1),
                "added": sg.scatter_add(x, g.integers((3,), n), g.uniform((3, m)), 0)}

    check(build, (7, 12), (1, 1), (20, 3), exact=False)


def test_a_gradient_sees_the_draws_of_its_loss() -> None:
    def build(g: sg.random.Generator, x: Tensor) -> dict[str, Tensor]:
        y = sg.nn.dropout(sg.tanh(x * g.uniform(x.shape)), 0.4, g)
        loss = sg.sum(y * y)
        return {"loss": loss, "slope": sg.grad(loss, x), "y": y}

    check(build, (7, 12), (1, 1), (40, 33), exact=False)


# Ramps: iota without an axis.

@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (1, 4), (4, 1), (2, 3, 4), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_ramps(shape: tuple[int, ...], dtype: str) -> None:
    for sizes in (shape, tuple(f"n{axis}" for axis in range(len(shape)))):
        x = sg.placeholder("x", sizes, dtype)
        ramp = registry["iota"](shape=x.shape, axis=None, dtype=np.dtype(dtype))
        outputs = {"alone": ramp, "used": x + ramp, "transposed": sg.transpose(x) * sg.transpose(ramp),
                   "summed": sg.sum(ramp), "stretched": sg.broadcast_to(ramp, (2, *x.shape)) + x}
        values = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype) * 3
        expected, actual = sg.evaluate(outputs, {x: values}), sg.compile([x], outputs)(values)
        for name, value in expected.items():
            agree(actual[name], value, name)


# What kernels there are.

def test_a_sample_is_part_of_the_kernel_that_uses_it() -> None:
    g = sg.random.generator(0)
    x = sg.placeholder("x", ("n", "m"))
    step = sg.compile([x], sg.nn.relu(sg.nn.dropout(sg.exp(x), 0.5, g)))
    assert kernels(step) == ["map_random_bits_less_exp_multiply_where_relu", "update_add"]
    assert {each.place for each in step.program.buffers} <= {"input", "output", "variable"}, "no mask is written out"
    assert "for i in" in step.source() and "for j in" not in step.source(), "one flat loop"
    noisy = sg.compile([x], sg.nn.softmax(x + g.normal(x.shape)))
    assert len(kernels(noisy)) == 2


def test_equal_samples_share_a_kernel() -> None:
    """Seed, counter and stream are data: layers, generators and seeds do not need kernels of their own."""
    texts = set()
    for seed in (0, 5):
        g = sg.random.generator(seed)
        g.uniform(3)
        x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", ("m",))
        program = api.compile_only([x, y], [sg.nn.dropout(x, 0.5, g), sg.nn.dropout(y, 0.5, g)]).program
        assert program is not None and len(program.kernels) == 2 and len(program.steps) == 3
        texts.add(tuple(sorted(kernel.text for kernel in program.kernels)))
    assert len(texts) == 1


def test_the_counter_is_written_once_after_everything() -> None:
    g, h = sg.random.generator(0), sg.random.generator(1)
    w = sg.variable(np.zeros((4,), "float32"), "w")
    step = sg.compile([], g.uniform(3) + h.uniform(3), updates={w: w + g.uniform(4)})
    stages = [each.stage for each in step.program.steps]
    assert stages == sorted(stages, key=lambda stage: stage == "commit")
    written = [each.name for each in step.program.variables if each.written]
    assert sorted(written) == ["generator.counter", "generator.counter", "w"]


# Machine code.

LOOPS = {
    "bits": ("uint32", lambda g, n: g.bits(n)),
    "uniform": ("float32", lambda g, n: g.uniform(n)),
    "double": ("float64", lambda g, n: g.uniform(n, dtype="float64")),
    "normal": ("float32", lambda g, n: g.normal(n)),
    "double normal": ("float64", lambda g, n: g.normal(n, dtype="float64")),
    "bernoulli": ("bool", lambda g, n: g.bernoulli(n, 0.3)),
    "integers": ("int32", lambda g, n: g.integers(n, 9, dtype="int32")),
    "far": ("int64", lambda g, n: g.integers(n, 10**15)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_vectorise_and_chunks_do_not_matter(name: str) -> None:
    dtype, build = LOOPS[name]
    sample = build(sg.random.generator(3), 1000)
    program = api.compile_only([], sample).program
    assert program is not None
    step = next(each for each in program.steps if each.stage != "commit")
    text = program.kernels[step.kernel].text
    kernel = compile_kernel(text)
    assert kernel.libm_calls() == set()
    whole_registers = re.search(r"call <\d+ x (float|double)> @staticgraph_\w+_v\d+", kernel.llvm)
    assert kernel.calls() == [] or ("normal" in name and whole_registers), "functions of angles have a rare branch"
    assert re.search(r"mul (nuw |nsw )*<\d+ x i64>", kernel.llvm), "words are made in vector registers"
    if dtype == "float32":
        assert "double" not in kernel.llvm
    output = np.empty(1000, dtype)
    variables = {number: np.array(value, np.uint64) for number, value in enumerate((3, 0))}
    buffers = {number: variables[buffer.index] if buffer.place == "variable" else output
               for number, buffer in enumerate(program.buffers)}
    arguments = [buffers[int(str(each.value))] if each.kind == "buffer" else int(str(each.value))
                 for each in step.arguments]
    whole, = run_in_chunks(text, arguments, [output], 1000, 1000)
    agree(whole, sg.evaluate(sample), name, relative="normal" in name)
    for chunk in (1, 7, 64, 129):
        part, = run_in_chunks(text, arguments, [output], 1000, chunk)
        assert part.tobytes() == whole.tobytes()


def test_words_of_one_block_are_computed_once() -> None:
    """A float64 takes two words of a block, a normal number four: the loops have the multiplications of one block."""
    products = {}
    for name in ("bits", "double", "double normal"):
        program = api.compile_only([], LOOPS[name][1](sg.random.generator(3), 1000)).program
        assert program is not None
        text = next(kernel.text for kernel in program.kernels if "philox" in kernel.text)
        llvm = compile_kernel(text).llvm
        products[name] = len(re.findall(r"mul [^\n]*(?:-766435501|3528531795)", llvm))
    assert products["bits"] > 0 and max(products.values()) < 1.5 * products["bits"], products


def test_samples_survive_every_pass() -> None:
    g = sg.random.generator(0)
    a, b = g.uniform(5), g.uniform(5)
    compilation = api.compile_only([], a - b)
    for outputs in compilation.graphs.values():
        nodes = [node for node in toposort(outputs) if node.op is random_bits]
        assert len(nodes) >= 2
