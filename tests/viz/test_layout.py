"""The layered layout keeps its invariants on graphs of all kinds."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

import staticgraph as sg
from staticgraph.viz.columns import HIGHEST, columns
from staticgraph.viz.display import display
from staticgraph.viz.layering import PAGE, assign_layers, within_width
from staticgraph.viz.layout import Item, Layout, Link, _isotonic, lay_out
from staticgraph.viz.model import collect
from staticgraph.viz.ordering import order_layers
from staticgraph.viz.scene import arrange

SLACK = 1e-6


def random_graph(seed: int, count: int) -> tuple[list[Item], list[Link]]:
    dice = random.Random(seed)
    items = [Item(dice.choice((6.0, 40.0, 90.0, 200.0)), dice.choice((0.0, 24.0, 36.0, 120.0))) for _ in range(count)]
    links = []
    for target in range(1, count):
        for source in {dice.randrange(max(0, target - 12), target) for _ in range(dice.randrange(4))}:
            links.append(Link(source, target, dice.choice((0.0, 0.0, -items[source].width / 3)), 0.0))
    return items, links


def overlap(a: tuple[float, float], b: tuple[float, float], first: Item, second: Item) -> bool:
    return (abs(a[0] - b[0]) < (first.width + second.width) / 2 - SLACK
            and abs(a[1] - b[1]) < (first.height + second.height) / 2 - SLACK)


def check(items: list[Item], links: list[Link], layout: Layout) -> None:
    for (a, first), (b, second) in combinations(zip(layout.centres, items, strict=True), 2):
        assert not overlap(a, b, first, second)
    for link, route in zip(links, layout.routes, strict=True):
        source, target = layout.centres[link.source], layout.centres[link.target]
        assert layout.layers[link.source] < layout.layers[link.target]
        assert route[0] == pytest.approx((source[0] + link.source_port, source[1] + items[link.source].height / 2))
        assert route[-1][1] == pytest.approx(target[1] - items[link.target].height / 2)
        assert abs(route[-1][0] - target[0]) <= items[link.target].width / 2
        assert all(upper[1] <= lower[1] + SLACK for upper, lower in pairwise(route))
        check_passes_no_box(items, layout, link, route)
    for (x, y), item in zip(layout.centres, items, strict=True):
        assert layout.left - SLACK <= x - item.width / 2 and x + item.width / 2 <= layout.left + layout.width + SLACK
        assert y - item.height / 2 >= -SLACK and y + item.height / 2 <= layout.height + SLACK


def check_passes_no_box(items: list[Item], layout: Layout, link: Link, route: list[tuple[float, float]]) -> None:
    """Where a route goes straight down through a layer, no box of that layer is in its way."""
    for (x, top), (other_x, bottom) in pairwise(route):
        if x != other_x or top == bottom:
            continue
        for number, ((centre, middle), item) in enumerate(zip(layout.centres, items, strict=True)):
            if number not in (link.source, link.target) and abs(x - centre) < item.width / 2 - SLACK:
                assert middle + item.height / 2 <= top + SLACK or middle - item.height / 2 >= bottom - SLACK


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    items, links = random_graph(seed, 5 + seed * 6)
    layout = lay_out(items, links)
    check(items, links, layout)
    assert lay_out(items, links) == layout


def test_nothing_and_one_thing() -> None:
    assert lay_out([], []).centres == []
    alone = lay_out([Item(30.0, 10.0)], [])
    assert (alone.centres, alone.left, alone.width, alone.height) == ([(0.0, 5.0)], -15.0, 30.0, 10.0)


def test_links_of_one_value_share_their_trunk() -> None:
    items = [Item(20.0, 10.0)] * 5
    links = [Link(0, 1), Link(1, 2), Link(2, 3), Link(3, 4), Link(0, 3), Link(0, 4)]
    layout = lay_out(items, links)
    check(items, links, layout)
    assert layout.routes[4][:6] == layout.routes[5][:6]


def test_inputs_stand_above_their_first_reader() -> None:
    # 0 -> 1 -> 2 -> 3 and an input 4 of 3, by way of 5
    assert assign_layers(6, [(0, 1), (1, 2), (2, 3), (4, 5), (5, 3)]) == [0, 1, 2, 3, 1, 2]


def test_ports_stand_alone_in_the_first_and_last_layer() -> None:
    layers = assign_layers(6, [(0, 1), (2, 1), (1, 3), (4, 3), (3, 5)], first=[0], last=[5])
    assert layers == [0, 2, 1, 3, 2, 4]


def test_hints_order_the_ports() -> None:
    items = [Item(6.0, 0.0)] * 3 + [Item(40.0, 20.0)] * 3
    links = [Link(0, 3), Link(1, 4), Link(2, 5)]
    layout = lay_out(items, links, first=[0, 1, 2], hints={0: 3.0, 1: 2.0, 2: 1.0})
    assert layout.centres[2][0] < layout.centres[1][0] < layout.centres[0][0]
    assert layout.centres[5][0] < layout.centres[4][0] < layout.centres[3][0]


def test_order_removes_crossings() -> None:
    rows = [[0, 1, 2], [3, 4, 5], [6, 7]]
    joints = [(0, 5, 0.0, 0.0), (1, 4, 0.0, 0.0), (2, 3, 0.0, 0.0), (5, 7, 0.0, 0.0), (3, 6, 0.0, 0.0)]
    ordered = order_layers(rows, joints)
    place = {node: number for row in ordered for number, node in enumerate(row)}
    for (a, b, *_), (c, d, *_) in combinations(joints[:3], 2):
        assert (place[a] - place[c]) * (place[b] - place[d]) > 0


def test_isotonic_regression_is_exact() -> None:
    # Wanted 10, 0, 5 with unit weights, gaps of 4: the best is found by hand from the pooled means.
    assert _isotonic([10.0, 0.0, 5.0], [1.0, 1.0, 1.0], [0.0, 4.0, 8.0]) == pytest.approx([1.0, 5.0, 9.0])
    assert _isotonic([0.0, 10.0], [1.0, 1.0], [0.0, 4.0]) == [0.0, 10.0]
    assert _isotonic([10.0, 0.0], [3.0, 1.0], [0.0, 4.0]) == pytest.approx([6.5, 10.5])


def test_isotonic_regression_keeps_its_bounds() -> None:
    assert _isotonic([-50.0, 0.0, 50.0], [1.0] * 3, [0.0, 4.0, 8.0], -10.0, 10.0) == [-10.0, 0.0, 10.0]


def test_layers_that_fit_a_page_stay_as_they_are() -> None:
    assert within_width([0, 1, 1, 2], [(0, 1), (0, 2), (1, 3), (2, 3)], [100.0] * 4, 50.0) == [0, 1, 1, 2]


@pytest.mark.parametrize("chain", [1, 3])
def test_many_readers_of_one_value_stand_in_blocks(chain: int) -> None:
    links, count = [], 1
    for _ in range(500):     # each reader begins a chain of its own
        links += [(0, count), *((count + number, count + number + 1) for number in range(chain - 1))]
        count += chain
    widths = [150.0] * count
    layers = within_width(assign_layers(count, links), links, widths, 60.0)
    assert all(layers[source] < layers[target] for source, target in links)
    used = [sum(width for width, layer in zip(widths, layers, strict=True) if layer == number)
            for number in range(max(layers) + 1)]
    assert PAGE < 500 * 150 and max(used) <= max(PAGE, 1.3 * (count * 150 * 60) ** 0.5) + SLACK
    spans = [layers[target] - layers[source] for source, target in links if source]
    assert all(span == 1 for span in spans)     # and a chain is not torn apart


def test_a_wide_box_is_folded_between_its_ports() -> None:
    """Ports keep to the upper and the lower edge, and routes lead downwards past the boxes."""
    items = [Item(150.0, 36.0)] * 80 + [Item(6.0, 0.0)] * 2
    links = [Link(80, number) for number in range(80)] + [Link(79, 81)]
    layout = lay_out(items, links, first=[80], last=[81])
    check(items, links, layout)
    assert layout.layers[80] == 0 and layout.layers[81] == max(layout.layers)
    assert layout.width < 80 * 150 / 2


def test_a_trunk_with_readers_on_one_side_stays_where_it_is() -> None:
    count, rows = 20, 12
    items = [Item(20.0, 20.0)] + [Item(100.0, 20.0)] * (count * rows)
    layers = [0] + [1 + number // count for number in range(count * rows)]
    layout = lay_out(items, [Link(0, number + 1) for number in range(count * rows)], layers=layers)
    assert layout.width < 2 * (count * 118.0)


def test_a_chain_is_cut_into_columns() -> None:
    count = 400
    layers, links = list(range(count)), [(number, number + 1) for number in range(count - 1)]
    found = columns(layers, links, [(120.0, 36.0)] * count, 40.0)
    assert found == sorted(found) and found[0] == 0
    assert max(found) > 3 and max(found.count(column) for column in set(found)) * 76.0 < HIGHEST


def test_columns_are_cut_where_few_values_pass() -> None:
    # two halves of 100 layers, joined by one value; within them each layer is read by the third below it too
    links = [(number, number + 1) for number in range(199)]
    links += [(number, number + 3) for number in range(197) if not 93 < number < 103]
    found = columns(list(range(200)), links, [(2000.0, 20.0)] * 200, 20.0)
    assert set(found) == {0, 1} and found.index(1) in range(97, 104)


def test_what_is_not_a_ribbon_is_one_column() -> None:
    assert columns([0, 1, 2], [(0, 1), (1, 2)], [(100.0, 40.0)] * 3, 30.0) == [0, 0, 0]
    assert columns([], [], [], 30.0) == []


def test_inputs_stand_in_the_column_of_their_first_reader() -> None:
    x = sg.placeholder("x", shape=("n",))
    value = x
    for number in range(300):
        value = sg.sin(value) if number != 200 else sg.sin(value) * sg.placeholder("late", shape=("n",))
    scene = arrange(display(collect(value)))
    assert scene.rules
    marks = dict(enumerate(scene.display.marks))
    (late,) = (number for number, mark in marks.items() if mark.label == "late")
    (reader,) = (number for number, mark in marks.items() if mark.label.endswith("multiply"))
    assert any(path.source == late and path.target == reader for path in scene.paths)
    assert late and not any(mark.role == "jump" and mark.label == "late" for mark in marks.values())
