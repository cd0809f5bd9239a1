"""grad, vjp, jvp, jacobian, hessian, verify_grad and stabilise: the contract, its errors, and known hard cases."""

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry
from staticgraph.ops.composite import log_softmax, softmax
from staticgraph.ops.elementwise import relu, sigmoid, softplus
from staticgraph.tensor import toposort


def here():
    import inspect
    return inspect.currentframe().f_back.f_lineno


def placeholder(name="x", shape=(2, 3), dtype="float64"):
    return sg.placeholder(name, shape, dtype)


VALUES = np.array([[-1.5, 0.25, 2.0], [0.5, -0.75, 1.25]])


# What comes back.

def test_result_mirrors_wrt():
    a, b = placeholder("a"), placeholder("b")
    y = sg.sum(a * b)
    assert sg.grad(y, a) is sg.grad(y, [a])[0]
    assert [type(sg.grad(y, wrt)) for wrt in ([a, b], (a, b), {"a": a})] == [list, tuple, dict]
    assert list(sg.grad(y, {"second": b, "first": a})) == ["second", "first"]
    assert sg.grad(y, []) == []
    first, second = sg.grad(y, [a, a])
    assert first is second


def test_dtype_and_shape_are_those_of_wrt():
    narrow, wide = placeholder("narrow", ("batch", 1), "float32"), placeholder("wide", (1, 4), "float64")
    g, h = sg.grad(sg.sum(narrow * wide), [narrow, wide])
    assert str(g.type), str(h.type) == ("float32[batch, 1]", "float64[1, 4]")
    feed = {narrow: np.ones((3, 1), "float32"), wide: np.arange(4.0)[None]}
    values = sg.evaluate([g, h], feed)
    assert [value.shape for value in values] == [(3, 1), (1, 4)]
    assert values[0].tolist() == [[6.0]] * 3
    assert values[1].tolist() == [[3.0] * 4]


def test_names_of_equal_sizes_do_not_leak():
    """The cotangent of a sum of ``batch`` and ``n`` elements has the size that each operand was declared with."""
    a, b = placeholder("a", ("batch",)), placeholder("b", ("n",))
    g, h = sg.grad(sg.sum(a * b), [a, b])
    assert (g.shape, h.shape) == (a.shape, b.shape)
    assert sg.evaluate(g, {a: np.ones(2), b: np.array([3.0, 4.0])}).tolist() == [3.0, 4.0]
    with pytest.raises(sg.ShapeError):
        sg.evaluate(g, {a: np.ones(2), b: np.ones(3)})


def test_fan_out_adds_up():
    b = placeholder("b", (5,))
    y = sg.sum((-b) + (-b))
    assert sg.evaluate(sg.grad(y, b), {b: np.ones(5)}).tolist() == [-2.0] * 5
    assert sg.evaluate(sg.grad(sg.sum(b * b * b), b), {b: np.full(5, 2.0)}).tolist() == [12.0] * 5


def test_interior_tensors():
    x = placeholder("x", (3,))
    h = sg.exp(x)
    y = sg.sum(h * x)
    g, total = sg.grad(y, [h, x])
    assert g is sg.grad(y, h)
    value = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(sg.evaluate(g, {x: value}), value)
    np.testing.assert_allclose(sg.evaluate(total, {x: value}), np.exp(value) * (1 + value))
    assert sg.grad(sg.sum(x), sg.sum(x)).shape == ()  # y itself


def test_gradient_of_gradient():
    x = placeholder("x", ())
    y = sg.exp(sg.sin(x)) * x
    third = sg.grad(sg.grad(sg.grad(y, x), x), x)
    value, h = 0.7, 1e-3
    second = sg.grad(sg.grad(y, x), x)
    slope = (sg.evaluate(second, {x: value + h}) - sg.evaluate(second, {x: value - h})) / (2 * h)
    np.testing.assert_allclose(sg.evaluate(third, {x: value}), slope, rtol=1e-5)


def test_cotangents_are_cast_and_broadcast():
    x = placeholder("x", ("n", 3), "float32")
    y = x * x
    feed = {x: VALUES.astype("float32")}
    for cotangent in (0.5, [0.5, 0.5, 0.5], np.float64(0.5), np.full((2, 3), 0.5), sg.constant(0.5)):
        g = sg.grad(y, x, cotangent=cotangent)
        assert g.dtype == np.float32
        np.testing.assert_array_equal(sg.evaluate(g, feed), feed[x])
    assert sg.evaluate(sg.grad(y, x, cotangent=sg.constant(np.int8(2))), feed).tolist() == (4 * feed[x]).tolist()


def test_composite_without_a_rule_is_differentiated_through_its_expansion():
    from staticgraph.op import composite, elementwise

    cube = composite("cube_of_product", doc="(a*b)**3", infer=elementwise, expand=lambda a, b: (a * b) ** 3,
                     operands="promote")
    try:
        a, b = placeholder("a"), placeholder("b")
        sg.verify_grad(cube(a, b), [a, b], {a: VALUES, b: VALUES + 3})
        sg.verify_grad(cube(a, a), a, {a: VALUES})
        sg.verify_grad(cube(a, sg.exp(a)), a, {a: VALUES})
    finally:
        registry.pop("cube_of_product")


# Lines and size of the graph.

def test_gradient_nodes_carry_the_lines_of_their_primal():
    x = placeholder("x", (3,))
    line = here() + 1
    h = sg.sin(x)
    y = sg.sum(h)
    g = sg.grad(y, x)
    made = {id(node) for node in toposort([y])}
    new = [node for node in toposort([g]) if id(node) not in made and node.op.kind != "leaf"]
    cosine = next(node for node in new if node.op.name == "cos")
    assert [each.line for each in cosine.locations] == [line]
    assert all(each.file == __file__ for node in new for each in node.locations)


def test_ten_thousand_ops():
    x = placeholder("x", (2,))
    y = x
    for _ in range(5000):
        y = sg.sin(y) + x
    g = sg.grad(sg.sum(y), x)
    assert g.shape == (2,)
    assert len(toposort([g])) < 60_000
    assert np.isfinite(sg.evaluate(g, {x: np.array([0.1, 0.2])})).all()


def test_fan_out_of_fan_out_is_linear():
    x = placeholder("x", ())
    y = x
    for _ in range(60):
        y = y + y  # 2**60 paths
    g = sg.grad(y, x)
    assert len(toposort([g])) < 300
    assert sg.evaluate(g, {x: 1.0}) == 2.0 ** 60


# Connected or not.

def test_unconnected_tensor_names_itself_and_its_line():
    x = placeholder("x", (2,))
    line = here() + 1
    w = sg.variable(np.zeros(3, "float32"), name="w")
    y = sg.sum(x)
    with pytest.raises(sg.GradientError) as caught:
        sg.grad(y, [x, w])
    assert str(caught.value) == (
        "grad: y does not depend on this tensor\n"
        f"  wrt: float32[3]   'w'   test_autodiff.py:{line}\n"
        f"  y:   float64[]          test_autodiff.py:{line + 1}\n"
        '  pass unconnected="zero" for zeros')
    g, zero = sg.grad(y, [x, w], unconnected="zero")
    assert (zero.dtype, zero.shape) == (np.float32, (3,))
    assert sg.evaluate([g, zero], {x: [1.0, 2.0]})[1].tolist() == [0.0] * 3


@pytest.mark.parametrize("function", [sg.floor, sg.ceil, sg.round, sg.trunc, sg.sign])
def test_steps_are_connected_with_gradient_zero(function):
    x = placeholder()
    assert sg.evaluate(sg.grad(sg.sum(function(x)), x), {x: VALUES}).tolist() == np.zeros((2, 3)).tolist()


@pytest.mark.parametrize("function", [
    lambda x: sg.stop_gradient(x), lambda x: sg.astype(x > 0, "float64"), lambda x: sg.astype(x, "int32") * 1.0,
    lambda x: sg.argmax(x) * 1.0, lambda x: sg.astype(sg.isnan(x), "float64")])
def test_what_disconnects(function):
    x = placeholder()
    with pytest.raises(sg.GradientError, match="does not depend on this tensor"):
        sg.grad(sg.sum(function(x)), x)
    assert sg.evaluate(sg.grad(sg.sum(function(x)), x, unconnected="zero"), {x: VALUES}).tolist() == [[0.0] * 3] * 2
    # beside a path that connects, a disconnected one adds nothing
    both = sg.grad(sg.sum(function(x)) + sg.sum(x), x)
    assert sg.evaluate(both, {x: VALUES}).tolist() == [[1.0] * 3] * 2


def test_integer_wrt():
    count = sg.placeholder("count", (2,), "int64")
    x = placeholder("x", (2,))
    y = sg.sum(x * count)
    with pytest.raises(sg.DTypeError) as caught:
        sg.grad(y, [x, count])
    assert "grad: no derivative with respect to a tensor of int64" in str(caught.value)
    assert "'count'" in str(caught.value)
    g, zero = sg.grad(y, [x, count], unconnected="zero")
    assert (zero.dtype, zero.shape) == (np.int64, (2,))
    assert sg.evaluate(zero, {}).tolist() == [0, 0]


def test_integer_y_depends_on_nothing():
    x = placeholder()
    with pytest.raises(sg.GradientError):
        sg.grad(sg.argmax(x), x)


def test_y_must_be_scalar_without_a_cotangent():
    x = placeholder("x", ("batch", 3))
    with pytest.raises(sg.GradientError) as caught:
        sg.grad(x * 2, x)
    assert str(caught.value).splitlines()[0] == "grad: y is not a scalar"
    assert "needed shape (), got (batch, 3): reduce y to a scalar" in str(caught.value)


def test_errors_of_arguments():
    x = placeholder()
    y = sg.sum(x)
    with pytest.raises(sg.ArgumentError, match="grad: y is a tensor, not float"):
        sg.grad(1.0, x)
    with pytest.raises(sg.ArgumentError, match="grad: wrt is a tensor, not ndarray"):
        sg.grad(y, VALUES)
    with pytest.raises(sg.ArgumentError, match="unconnected is 'raise' or 'zero', not 'none'"):
        sg.grad(y, x, unconnected="none")
    with pytest.raises(sg.ShapeError, match="grad: the cotangent does not broadcast to its tensor"):
        sg.grad(x * 2, x, cotangent=np.ones(4))
    with pytest.raises(sg.ShapeError, match="does not broadcast"):
        sg.grad(y, x, cotangent=np.ones(4))
    with pytest.raises(sg.DTypeError):
        sg.grad(y, x, cotangent="one")
    with pytest.raises(sg.ArgumentError, match="vjp: needed 2 cotangents, one for each tensor, got 1"):
        sg.vjp([y, x], x, [1.0])
    with pytest.raises(sg.ArgumentError, match="jvp: needed 1 tangents"):
        sg.jvp(y, [x], [VALUES, VALUES])


def test_a_float_cotangent_of_another_kind_is_an_error():
    narrow = placeholder("narrow", (), "float32")
    assert sg.grad(narrow * 1, narrow, cotangent=np.float64(2.0)).dtype == np.float32  # same kind


# Several outputs, forward mode, matrices of derivatives.

def test_vjp_of_several_outputs():
    a, b = placeholder("a"), placeholder("b")
    result = sg.vjp([a * b, sg.exp(a)], [a, b], [1.0, VALUES])
    assert isinstance(result, list)
    feed = {a: VALUES, b: VALUES + 1}
    da, db = sg.evaluate(result, feed)
    np.testing.assert_allclose(da, feed[b] + VALUES * np.exp(VALUES))
    np.testing.assert_allclose(db, VALUES)
    assert sg.vjp(a * b, a, 1.0)[0] is sg.grad(a * b, a, cotangent=1.0)


def test_jvp():
    a, b = placeholder("a"), placeholder("b")
    tangent = np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
    outputs = [a * sg.exp(b), sg.sum(a, axis=1), a]
    feed = {a: VALUES, b: VALUES + 1}
    results = sg.evaluate(sg.jvp(outputs, [a, b], [tangent, 1.0]), feed)
    np.testing.assert_allclose(results[0], tangent * np.exp(feed[b]) + VALUES * np.exp(feed[b]))
    np.testing.assert_allclose(results[1], tangent.sum(axis=1))
    np.testing.assert_allclose(results[2], tangent)
    assert {node.name for each in sg.jvp(outputs, [a, b], [tangent, 1.0]) for node in toposort([each])} <= {
        "a", "b", None}


def test_jvp_of_what_does_not_depend():
    a, b = placeholder("a"), placeholder("b")
    with pytest.raises(sg.GradientError, match="this output depends on none of wrt"):
        sg.jvp([a * 1.5, sg.exp(b)], a, 1.0)
    change, zero = sg.jvp([a * 1.5, sg.exp(b)], a, VALUES, unconnected="zero")
    assert sg.evaluate(zero, {b: VALUES}).tolist() == np.zeros((2, 3)).tolist()
    np.testing.assert_allclose(sg.evaluate(change, {a: VALUES}), 1.5 * VALUES)


def test_jvp_refuses_a_rule_that_is_not_linear():
    clipped = sg.custom_gradient(lambda x: x * 1.0, lambda ct, y, x: (sg.clip(ct, -1, 1),))
    x = placeholder()
    assert sg.evaluate(sg.grad(clipped(x), x, cotangent=5.0), {x: VALUES}).tolist() == [[1.0] * 3] * 2
    with pytest.raises(sg.GradientError, match="not linear in its cotangent"):
        sg.jvp(clipped(x), x, 1.0)


def test_jacobian():
    x, w = placeholder("x", (3,)), placeholder("w", (2, 3))
    jx, jw = sg.jacobian(sg.matmul(w, x), [x, w])
    assert (jx.shape, jw.shape) == ((2, 3), (2, 2, 3))
    feed = {x: np.array([1.0, 2.0, 3.0]), w: VALUES}
    np.testing.assert_allclose(sg.evaluate(jx, feed), VALUES)
    expected = np.zeros((2, 2, 3))
    expected[0, 0] = expected[1, 1] = feed[x]
    np.testing.assert_allclose(sg.evaluate(jw, feed), expected)
    assert sg.jacobian(sg.sum(x), x).shape == (3,)
    assert sg.jacobian(x[:0], x).shape == (0, 3)
    assert sg.evaluate(sg.jacobian(x[:0], x), {x: feed[x]}).shape == (0, 3)
    assert sg.jacobian(x * x, sg.placeholder("other", (2,), "float64"), unconnected="zero").shape == (3, 2)


def test_jacobian_needs_static_sizes_of_y_only():
    x = placeholder("x", ("n", 3))
    with pytest.raises(sg.ShapeError, match="jacobian: the sizes of y must be known when the graph is built"):
        sg.jacobian(x * 2, x)
    j = sg.jacobian(sg.sum(x * x, axis=0), x)
    np.testing.assert_allclose(sg.evaluate(j, {x: VALUES})[1, :, 1], 2 * VALUES[:, 1])


def test_hessian():
    x = placeholder("x", (3,))
    value = np.array([0.3, -0.4, 1.1])
    h = sg.evaluate(sg.hessian(sg.sum(sg.exp(x)) * x[0], x), {x: value})
    e = np.exp(value)
    expected = np.diag(e * value[0])
    expected[0] += e
    expected[:, 0] += e
    np.testing.assert_allclose(h, expected, rtol=1e-12)
    assert sg.evaluate(sg.hessian(sg.sum(3 * x), x), {x: value}).tolist() == np.zeros((3, 3)).tolist()
    matrix = placeholder("m", (2, 2))
    assert sg.hessian(sg.sum(sg.matmul(matrix, matrix)), matrix).shape == (2, 2, 2, 2)


# Stability, kinks and infinities.

def test_gradient_of_the_repaired_formula():
    x = placeholder("x", (2,))
    g = sg.grad(-sg.log(sg.exp(x) / sg.sum(sg.exp(x)))[1], x)
    np.testing.assert_allclose(sg.evaluate(g, {x: [1000.0, 0.0]}), [1.0, -1.0])
    s = placeholder("s", ())
    assert sg.evaluate(sg.grad(sg.log(1 + sg.exp(s)), s), {s: 1000.0}) == 1.0


def test_wrt_is_opaque():
    """grad(log(p), p) is 1/p, though log(p) alone would be repaired."""
    x = placeholder("x", (2,))
    p = softmax(x)
    y = sg.sum(sg.log(p))
    value = [0.3, -0.2]
    np.testing.assert_allclose(sg.evaluate(sg.grad(y, p), {x: value}), 1 / sg.evaluate(p, {x: value}))
    np.testing.assert_allclose(sg.evaluate(sg.grad(y, [p])[0], {x: value}), 1 / sg.evaluate(p, {x: value}))


def test_stabilise_takes_tensors_and_lists():
    x = placeholder()
    assert sg.stabilise(sg.log(softmax(x))) is log_softmax(x)
    assert sg.stabilise([sg.log(1 + sg.exp(x)), x])[0] is softplus(x)
    p = softmax(x)
    assert sg.stabilise(sg.log(p), opaque=[p]) is sg.log(p)


@pytest.mark.parametrize(("formula", "at", "expected"), [
    (lambda x: sg.where(x > 0, sg.log(x), 0.0), 0.0, 0.0),
    (lambda x: sg.where(x > 0, sg.sqrt(x), 0.0), 0.0, 0.0),
    (lambda x: sg.where(x <= 0, 0.0, 1 / x), 0.0, 0.0),
    (lambda x: sg.where(x > 0, sg.exp(sg.log(x) * 0.5) * 2, x), 0.0, 1.0),
    (lambda x: sg.where(x < 100, sg.exp(x * x) / x, 1.0), 1e3, 0.0),
    (lambda x: sg.where(sg.abs(x) > 1e-3, sg.sin(x) / x, 1 - x * x / 6), 0.0, 0.0),
])
def test_the_branch_that_was_not_taken_adds_exactly_zero(formula, at, expected):
    """JAX and torch give nan here: zero times an infinite derivative."""
    x = placeholder("x", (2,))
    y = sg.sum(formula(x))
    assert sg.evaluate(sg.grad(y, x), {x: np.array([at, 0.5])})[0] == expected
    sg.verify_grad(y, x, {x: np.array([0.7, 0.5])})
    second = sg.grad(sg.sum(sg.grad(y, x)), x)
    assert np.isfinite(sg.evaluate(second, {x: np.array([at, 0.5])})).all()


@pytest.mark.parametrize("formula", [
    lambda x: sg.where(norm(x) > 0, x / norm(x), 0.0),
    lambda x: sg.where(norm(x) == 0, 0.0, x / norm(x)),
    lambda x: sg.where((norm(x) > 0).T, x.T / norm(x).T, 0.0),
    lambda x: sg.where(norm(x)[:, 0] > 0, 1 / norm(x)[:, 0], 0.0),
])
def test_a_norm_of_zero_that_was_not_taken(formula):
    x = placeholder("x", ("n", 3))
    y = sg.sum(formula(x) * 2.0)
    slopes = sg.evaluate(sg.grad(y, x), {x: np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])})
    assert slopes[0].tolist() == [0.0] * 3
    sg.verify_grad(y, x, {x: VALUES})


def norm(x):
    return sg.sqrt(sg.sum(x * x, axis=1, keepdims=True))


def test_masks_of_two_uses_are_merged():
    x = placeholder("x", (2,))
    safe = sg.log(x)
    y = sg.sum(sg.where(x > 0, safe * safe + safe, 0.0))
    assert sg.evaluate(sg.grad(y, x), {x: np.array([0.0, 1.0])}).tolist() == [0.0, 1.0]


def test_relu_at_zero():
    x = placeholder("x", (3,))
    assert sg.evaluate(sg.grad(sg.sum(relu(x)), x), {x: [-1.0, 0.0, 2.0]}).tolist() == [0.0, 0.0, 1.0]
    assert sg.evaluate(sg.grad(sg.sum(sg.abs(x)), x), {x: [-1.0, 0.0, 2.0]}).tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("function", [sg.tanh, sigmoid, softplus, sg.logsumexp, softmax, log_softmax, sg.erf])
@pytest.mark.parametrize("size", [50.0, 800.0, 1e5])
def test_saturated_functions_have_finite_gradients(function, size):
    x = placeholder("x", (2,))
    y = sg.sum(function(x) * np.array([1.0, 2.0]))
    g = sg.grad(y, x)
    second = sg.grad(sg.sum(g * np.array([1.0, -1.0])), x)
    for value in ([size, -size], [size, size], [-size, 0.0]):
        assert np.isfinite(sg.evaluate([g, second], {x: value})).all()


# verify_grad.

def test_verify_grad_names_the_worst_entry():
    wrong = sg.primitive("off_by_a_little", ref=lambda x: x * x, operands="number",
                         vjp=lambda ct, y, x: (ct * (2 * x + sg.where(x > 1.5, 0.5, 0.0)),))
    x = placeholder("x", (2, 3), "float32")
    with pytest.raises(sg.GradientError) as caught:
        sg.verify_grad(wrong(x) + 0, x, {x: VALUES.astype("float32")})
    text = str(caught.value)
    assert text.startswith("verify_grad: the gradient is not the slope\n  wrt: float32[2, 3]   'x'")
    assert "worst at index (0, 2): gradient " in text
    sg.verify_grad(wrong(x), x, {x: np.full((2, 3), 0.5, "float32")})


def test_verify_grad_takes_variables_interiors_and_integers():
    w = sg.variable(np.array([[0.5, -1.0], [2.0, 0.1], [0.3, 0.4]], "float32"), name="w")
    x, rows = placeholder("x", ("n", 3), "float32"), sg.placeholder("rows", ("k",), "int64")
    h = sg.matmul(x, w)
    y = sg.take(sg.tanh(h), rows, axis=0)
    sg.verify_grad(y, [x, w, h], {x: VALUES.astype("float32"), rows: [1, 0, 1]})
    sg.verify_grad(y, {"w": w}, {x: VALUES.astype("float32"), rows: [0]}, seed=5)


def test_verify_grad_finds_nan():
    x = placeholder("x", (2,))
    with pytest.raises(sg.GradientError, match="gradient nan"):
        sg.verify_grad(sg.exp(sg.log(x) * 0) * x, x, {x: np.array([0.0, 1.0])})


def test_verify_grad_of_nothing():
    x = placeholder("x", (0, 3))
    sg.verify_grad(sg.exp(x), x, {x: np.zeros((0, 3))})


def test_verify_grad_of_a_large_tensor_looks_at_a_choice():
    x = placeholder("x", (60, 50))
    sg.verify_grad(sg.sum(sg.sin(x)), x, {x: np.random.default_rng(0).normal(size=(60, 50))})
