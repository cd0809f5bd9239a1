"""The layered layout keeps its invariants on graphs of all kinds."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

from staticgraph.viz.layering import assign_layers
from staticgraph.viz.layout import Item, Layout, Link, _isotonic, lay_out
from staticgraph.viz.ordering import order_layers

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
