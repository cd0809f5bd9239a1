"""Why two kernels are two: exact reasons for each kind of boundary, and a reason for every boundary there is."""

from dataclasses import replace

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.compiler import program_text
from staticgraph.compiler.program import verify
from staticgraph.compiler.reasons import CHAIN_WORDS, WORDS
from staticgraph.runtime import words
from tests.rewrite.test_random_graphs import Grower

from .graphs import GRAPHS
from .models import perceptron

x = sg.placeholder("x", ("n", 12))
narrow = sg.placeholder("narrow", ("n", 5))
square = sg.placeholder("square", (8, 8))
row = sg.placeholder("row", (12,))
other = sg.placeholder("other", ("k", 12))
middle = sg.placeholder("middle", ("n", 1, 4))
cube = sg.placeholder("cube", ("n", 9, 4))
at = sg.placeholder("at", ("k",), "int32")
labels = sg.placeholder("labels", ("n",), "int64")
long = sg.placeholder("long", (2**20,))
images = sg.placeholder("images", ("n", 2, 6, 6))
w, v = sg.variable(np.zeros(12, "float32"), "w"), sg.variable(np.zeros(12, "float32"), "v")
matrix = sg.variable(np.zeros((12, 12), "float32"), "matrix")
filters = sg.variable(np.zeros((3, 2, 3, 3), "float32"), "filters")


def chain(start, length):
    for _ in range(length):
        start = sg.tanh(start) * 1.01
    return start


def both(value):
    return value + value.T


def around_a_product(value):
    return sg.exp(value @ square) + value * 2


COPIED = "and is copied once everything is done"
PARTS = "parts are copied to their places, in kernels of their own"
REASONS = {
    "two ways": ([square], both(sg.exp(square) * 2) + 1, {}, ["'add' reads 'multiply' in two ways at once"]),
    "through a slice": ([x], sg.tanh(sg.exp(x)[1:] - sg.exp(x)[:-1]), {},
                        ["'subtract' reads 'exp' through 'slice', so not element by element"]),
    "wanted by the caller": ([x, row], [sg.exp(row), x * sg.exp(row)], {}, [
        "'exp' is wanted by the caller, and would be computed again for each element of the other"]),
    "shared": ([x, row, other], [x * sg.exp(row), other - sg.exp(row)], {}, [
        "'exp' is used by 2 kernels, and would be computed again for each element of the other"] * 2),
    "dear": ([middle, cube], sg.exp(middle) * cube, {},
             ["'exp' is too dear to compute again for each element of the other"]),
    "two reductions": ([x], sg.sum(x * sg.sum(x, 0), 1), {},
                       ["they reduce different axes, so each needs the other's rows whole"]),
    "reduced again and spread": ([x], x - sg.sum(sg.sum(x, 1)), {}, [
        "the rows of 'sum' must be complete before 'sum' reduces them again",
        "'sum' must be complete before 'subtract' spreads it over other axes than it came from"]),
    "other axes": ([x, narrow], sg.exp(sg.sum(x, 1))[:, None] + narrow, {}, [
        "'exp' must be complete before 'add' spreads it over other axes than it came from"]),
    "a table": ([x, at], sg.take(sg.exp(x), at, 0), {},
                ["'gather' picks elements anywhere in 'exp', so all of it must be there before"]),
    "many nodes": ([x], chain(x, 40), {},
                   ["together they would have too many nodes, which bounds the time of compiling them"]),
    "a cycle": ([square], around_a_product(sg.exp(square) + 1), {}, [
        "a product packs its operands from memory: it cannot take 'add' as a prologue",
        "would make a cycle: 'matmul' needs the one, and the other needs it",
        "a product ends with its store: all programs share its kernel"]),
    "an update": ([x], (), {w: w - sg.sum(x, 0)}, ["the variable is written after everything that can fail"]),
    "old values": ([], (), {w: w - v, v: v - w[::-1] * 2}, [
        "the old value is still read, so the new one is copied once everything is done"] * 2),
    "a new value for two": ([], (), {w: w * 2 + v, v: w * 2 + v}, [f"the new value is wanted elsewhere too, {COPIED}"]),
    "a new value that is given back": ([], w * 2, {w: w * 2}, [f"the new value is wanted elsewhere too, {COPIED}"]),
    "a new value that is a sum": ([x], (), {w: sg.sum(x, 0)}, [
        f"the new value is not made by elementwise work of its own, {COPIED}"]),
    "variables that are exchanged": ([], (), {w: v, v: w}, [
        "the old value is saved before any variable is written"] * 2),
    "an output twice": ([x], [sg.exp(x), sg.exp(x)], {},
                        ["the caller's array is another one than where the value lies"]),
    "a view as output": ([x], sg.exp(x).T, {}, ["the caller gets the view as an array of its own"]),
    "a reshape of a transpose": ([x], sg.sqrt(sg.reshape(sg.exp(x).T, (-1,))), {}, [
        "no strides describe the reshape of 'permute_dims', so it is written out"] * 2),
    "a scan": ([x], sg.exp(sg.cumulative_sum(sg.exp(x), 1)), {}, [
        "'cumulative_sum' goes along its axis one after the other, in a kernel of its own"] * 2),
    "a sort": ([x], sg.argsort(sg.exp(x), 1) + 1, {}, ["rows are sorted in memory"] * 2),
    "joined parts": ([x], sg.exp(sg.concat([sg.exp(x), x], 1)), {}, [PARTS] * 3),
    "padding": ([x], sg.pad(sg.exp(x), ((1, 1), (0, 0))), {},
                ["what is padded is copied to its place, in a kernel of its own"]),
    "a scatter": ([x, at, other], sg.exp(sg.scatter_add(x, at, other * 2, axis=0)), {}, [
        "'scatter_add' adds up elements at any place, in a kernel of its own"] * 2 + [
        "'scatter_add' must be complete before anything reads it"]),
    "a convolution": ([images], sg.exp(sg.conv2d(sg.tanh(images), filters)), {}, [
        "'direct_conv' reads each element in many windows: it cannot take 'tanh' as a prologue",
        "'direct_conv' ends with its store: all programs share its kernel"]),
    "one long row": ([long], sg.sum(long), {}, [
        "rows are cut into parts, which several threads make, and these are joined afterwards"]),
    "columns beside rows": ([sg.placeholder("wide", ("n", 1024))], lambda wide: [
        sg.nn.softmax(wide), sg.sum(sg.nn.softmax(wide), 0)], {}, [
        "sums down the columns are made for some rows at a time, and these are added up afterwards"]),
}


def compiled(inputs, outputs, updates, device="cpu"):
    return compile_only(inputs, outputs(*inputs) if callable(outputs) else outputs, updates=updates, device=device)


@pytest.mark.parametrize("name", REASONS)
def test_reasons(name):
    inputs, outputs, updates, expected = REASONS[name]
    program = compiled(inputs, outputs, updates).program
    assert sorted(each.reason for each in program.boundaries) == sorted(expected)
    assert all(each.line.startswith(("test_reasons.py:", "models.py:")) for each in program.boundaries)
    check_boundaries(program)


def check_boundaries(program):
    """What a step reads that an earlier one has written is told, and nothing else."""
    told = {(each.first, each.second) for each in program.boundaries}
    writer: dict[int, int] = {}
    for number, step in enumerate(program.steps):
        for buffer in step.reads:
            assert buffer not in writer or (writer[buffer], number) in told
        writer.update(dict.fromkeys(step.writes, number))
    for first, second in told:
        assert first < second
        touched = {*program.steps[second].reads, *program.steps[second].writes}
        assert touched & set(program.steps[first].writes)


def test_rows_that_go_together_and_why_others_do_not():
    y = square
    for _ in range(4):
        y = y @ square
    program = compiled([square], y, {}).program
    assert [(each.first, each.second, each.rows) for each in program.boundaries] == [
        (0, 1, "together"), (1, 2, "together"), (2, 3, "a chain has no more than 3 products")]
    inputs, loss, parameters = perceptron()
    program = compiled(inputs, loss, dict(zip(parameters, sg.grad(loss, parameters)))).program
    assert {each.rows for each in program.boundaries} == {
        "", "together", "it does not go along the rows of the product",
        "an index may be out of range, and then nothing after it may run"}
    check_boundaries(program)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_boundary_has_a_reason(name, device):
    inputs, outputs, updates = GRAPHS[name]()
    program = compiled(inputs, outputs, updates, device).program
    check_boundaries(program)
    assert all(each.reason and "{" not in each.reason for each in program.boundaries)


@pytest.mark.parametrize("seed", range(800, 810))
def test_every_boundary_of_random_graphs_has_a_reason(seed):
    grower = Grower(seed, smooth=True)
    outputs = grower.grow(30)
    total = sum(sg.mean(each) for each in outputs[-4:])
    slopes = [each for each in sg.grad(total, grower.leaves, unconnected="zero") if each.op.kind != "leaf"]
    program = compiled(grower.leaves, [*outputs, *slopes], {}).program
    check_boundaries(program)
    assert program.boundaries


def test_reasons_come_from_the_cache_as_they_were():
    inputs, loss, parameters = perceptron()
    program = compiled(inputs, loss, dict(zip(parameters, sg.grad(loss, parameters)))).program
    lines = sorted({each.line for each in program.boundaries})
    text, content = program_text.write(program, lines, [])
    again, _ = program_text.read(text, content, lines, program.structure)
    verify(again)
    assert (again.boundaries, again.rewrites, again.recomputed) == (
        program.boundaries, program.rewrites, program.recomputed)
    moved, _ = program_text.read(text, content, [f"moved.py:{number}" for number in range(len(lines))],
                                 program.structure)
    assert [each.line for each in moved.boundaries] == [
        f"moved.py:{lines.index(each.line)}" for each in program.boundaries]


def test_words_are_whole_sentences_without_an_end():
    for text in (*WORDS.values(), *CHAIN_WORDS.values()):
        assert text[0] in "{abcdefghijklmnopqrstuvwxyz" and text[-1] not in ".,:;"


EXPLAINED = """\
rewritten
  stabilise: log-softmax at test_reasons.py:0, because a probability that underflows to 0 has a finite logarithm
  decompose: expand-log_softmax at test_reasons.py:0, because kernels are made of primitives

fused
  step 1, row_max_subtract_exp_sum_log: max, 2 subtract, exp, sum, log of test_reasons.py:0

not fused
  a product ends with its store: all programs share its kernel
    0 -> 1  matmul: float32[n, 12]  test_reasons.py:0  both go through some rows at a time"""


def test_explain_says_it_in_words():
    y = sg.log(sg.nn.softmax(x @ matrix))
    program = compiled([x], y, {}).program
    told = "\n\n".join(words.sections(program, ["no entry", ""], False))
    assert told.replace(f":{y.location.line}", ":0") == EXPLAINED


def test_explain_says_what_was_computed_again_and_left_to_numba():
    program = replace(compiled([x], sg.exp(x), {}).program, recomputed=("again: map_exp",))
    assert words.sections(program, ["by Numba: no such thing"], False) == [
        "computed again, to keep within the memory budget\n  again: map_exp",
        "left to Numba\n  kernel 0, map_exp: no such thing"]


def test_long_sections_are_cut_short():
    y = x
    for number in range(100):
        y = sg.tanh(y @ matrix) if number % 2 else sg.log(1 + sg.exp(y))
    executable = sg.compile([x], y)
    short, whole = executable.explain(), executable.explain(verbose=True)
    assert len(short.splitlines()) < 250 < len(whole.splitlines())
    assert "more for this reason: explain(verbose=True) tells all" in short
    assert "more: explain(verbose=True) tells all" in short
    assert "tells all" not in whole and "softplus 50 times" in whole
