"""The rewriter itself: what it may look into, what it keeps, when it stops; and the pattern language."""

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.errors import ArgumentError, VerificationError
from staticgraph.ops.composite import log_softmax, softmax
from staticgraph.ops.elementwise import softplus
from staticgraph.rewrite import simplify, stabilise
from staticgraph.rewrite.pattern import Match, attr, either, number, ops, rule, spread, var
from staticgraph.rewrite.rewriter import RuleSet, rewrite

a, b = var("a"), var("b")
x = sg.placeholder("x", (2, 3), "float64")
y = sg.placeholder("y", (2, 3), "float64")


def matches(pattern, node, opaque=()):
    return list(pattern.match(node, Match(), frozenset(map(id, opaque))))


def test_numbers_match_through_broadcasts_and_know_their_sign():
    assert matches(ops.add(a, 1), x + 1.0)
    assert matches(ops.add(a, 1), x + sg.constant([[1.0]]))
    assert not matches(ops.add(a, 0.0), x + -0.0)
    assert matches(ops.add(a, -0.0), x + -0.0)
    assert not matches(ops.add(a, 1), x + sg.constant(np.ones((2, 3))))  # not a scalar
    assert matches(ops.multiply(a, number("n")), x * 2.5)[0].bound["n"] == 2.5


def test_commutative_ops_match_both_ways_and_others_do_not():
    assert matches(ops.add(1, a), x + 1.0)
    assert matches(ops.subtract(a, 1), x - 1.0)
    assert not matches(ops.subtract(1, a), x - 1.0)
    found = matches(ops.multiply(ops.exp(a), ops.log(b)), sg.log(y) * sg.exp(x))
    assert [(each.bound["a"], each.bound["b"]) == (x, y) for each in found] != []
    assert found[0].bound["a"] is x and found[0].bound["b"] is y


def test_a_variable_stands_for_one_node():
    assert matches(ops.multiply(a, a), x * x)
    assert not matches(ops.multiply(a, a), x * y)
    # The first way round fails at the second operand: matching goes back and tries the other.
    assert matches(ops.add(ops.multiply(a, b), ops.exp(b)), y * x + sg.exp(y))[0].bound["b"] is y


def test_attributes_are_bound_and_compared():
    total = sg.sum(x, axis=1)
    assert matches(ops.sum(a, axes=attr("axes")), total)[0].bound["axes"] == (1,)
    assert matches(ops.sum(a, axes=(1,)), total)
    assert not matches(ops.sum(a, axes=(0,)), total)
    both = ops.add(ops.sum(a, axes=attr("axes")), ops.sum(b, axes=attr("axes")))
    assert matches(both, total + sg.sum(y, axis=1))
    assert not matches(both, sg.sum(sg.placeholder("s", (2, 2), "float64"), axis=1)
                       + sg.sum(sg.placeholder("s", (2, 2), "float64"), axis=0))


@pytest.mark.parametrize("spell", [
    lambda total: sg.expand_dims(total, 1), lambda total: sg.broadcast_to(sg.expand_dims(total, 1), (2, 3))])
def test_spread_sees_kept_axes(spell):
    pattern = spread(ops.sum(a, axes=attr("axes")), attr("axes"))
    assert matches(pattern, spell(sg.sum(x, axis=1)))
    assert not matches(pattern, sg.expand_dims(sg.sum(x, axis=1), 0))


def test_spread_sees_leading_axes_without_keepdims():
    pattern = spread(ops.sum(a, axes=attr("axes")), attr("axes"))
    assert matches(pattern, sg.broadcast_to(sg.sum(x, axis=0), (2, 3)))
    assert matches(pattern, sg.broadcast_to(sg.sum(x), (2, 3)))
    square = sg.placeholder("square", (3, 3), "float64")
    assert not matches(pattern, sg.broadcast_to(sg.sum(square, axis=1), (3, 3)))


def test_variants_are_all_spellings():
    pattern = ops.log(either(ops.square(a), ops.multiply(a, a)) + either(1, 2))
    built = [each.build({"a": x}) for each in pattern.variants()]
    assert built == built and len({id(each) for each in built}) == 4


def test_pattern_needs_an_op_at_its_root():
    with pytest.raises(ArgumentError, match="rule 'all': the root of a pattern is an op"):
        rule("all", a, a, why="").looks()


def test_opaque_tensors_are_leaves():
    p = softmax(x)
    assert stabilise([sg.log(p)])[0][0] is log_softmax(x)
    assert stabilise([sg.log(p)], [p]) == ([sg.log(p)], [])
    inside = sg.log(1 + sg.exp(x))
    outer = sg.log(1 + sg.exp(inside))
    assert stabilise([outer], [inside])[0][0] is softplus(inside)  # looked at, not into


def test_an_opaque_output_is_returned_as_it_is():
    written = sg.log(1 + sg.exp(x))
    assert stabilise([written, written], [written])[0][1] is written


def test_outputs_share_what_they_shared():
    shared = sg.log(1 + sg.exp(x))
    first, second = stabilise([sg.exp(shared) * 2, shared])[0]
    assert second is softplus(x)
    assert first.inputs[0].inputs[0] is second


def test_provenance_and_names():
    inner = sg.exp(sg.placeholder("z", (3,), "float64"))
    outer = sg.log(1 + inner)
    outer._label = "loss"
    (result,), remarks = stabilise([outer])
    assert result.name == "loss"
    lines = {str(each) for each in result.locations}
    assert {str(inner.location), str(outer.location)} <= lines
    assert remarks == [f"softplus: {outer.location}"]


def test_a_variable_of_the_pattern_keeps_its_own_name():
    source = sg.placeholder("source", (3,), "float64")
    written = sg.log(sg.exp(source))
    written._label = "copy"
    assert stabilise([written])[0][0] is source
    assert source.name == "source"


def test_guards_survive():
    """Sizes that can only be compared at the call are compared after rewriting too."""
    one, other = sg.placeholder("one", ("n",), "float64"), sg.placeholder("other", ("m",), "float64")
    for written in (sg.log(sg.exp(one) + sg.exp(other)), sg.log(sg.exp(one + other)), sg.where(one > 0, one, other)):
        (result,), _ = stabilise([written])
        with pytest.raises(sg.ShapeError):
            sg.evaluate(result, {one: np.ones(2), other: np.ones(3)})
    dropping = sg.where(one > other, one, one)
    assert dropping.inputs[0].guards
    (result,), remarks = simplify([dropping])
    with pytest.raises(sg.ShapeError):
        sg.evaluate(result, {one: np.ones(2), other: np.ones(3)})


def test_a_rule_that_changes_the_type_is_a_bug():
    narrower = rule("narrower", ops.exp(a), lambda found: sg.astype(found.bound["a"], "float32"), why="")
    with pytest.raises(VerificationError, match="rule 'narrower' changes the type of what it replaces"):
        rewrite([sg.exp(x)], RuleSet([narrower]))
    smaller = rule("smaller", ops.exp(a), lambda found: found.bound["a"][0], why="")
    with pytest.raises(VerificationError, match="rule 'smaller' changes the type"):
        rewrite([sg.exp(x)], RuleSet([smaller]))


def test_rules_that_never_rest_are_found():
    forth = rule("forth", ops.exp(a), ops.exp2(a), why="")
    back = rule("back", ops.exp2(a), ops.exp(a), why="")
    with pytest.raises(VerificationError, match="circle"):
        rewrite([sg.exp(x)], RuleSet([forth, back]))
    grow = rule("grow", ops.exp(a), ops.exp(a + 1), why="")
    with pytest.raises(VerificationError, match="does not come to rest"):
        rewrite([sg.exp(x)], RuleSet([grow]))
    inside = rule("inside", ops.exp(a), ops.negative(ops.exp(a)), why="")
    with pytest.raises(VerificationError, match="circle"):
        rewrite([sg.exp(x)], RuleSet([inside]))


def test_rewriting_is_idempotent():
    written = sg.log(softmax(x)) + sg.log(1 + sg.exp(y)) * 1
    once = stabilise([written])[0]
    assert stabilise(once)[0][0] is once[0]
    assert stabilise(once)[1] == []


def test_ten_thousand_nodes():
    node = x
    for _ in range(2000):
        node = sg.log(1 + sg.exp(node)) * 1.0 + 0.5
    (result,), remarks = stabilise([node])
    assert [remark.split(": ")[0] for remark in remarks] == ["softplus"]
    assert remarks[0].endswith("(2000 times)")
    assert simplify([result])[1][0].endswith("(2000 times)")


def test_a_wide_fan_out_is_looked_at_once():
    node = x
    for _ in range(200):
        node = node + node  # 2**200 paths
    assert stabilise([sg.log(1 + sg.exp(node))])[0][0] is softplus(node)
