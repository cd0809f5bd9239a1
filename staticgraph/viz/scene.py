"""A picture with everything in its place: marks inside of kernel boxes, and paths between them.

Comes in: a `Display`. Goes out: a `Scene` in pixels. The layout is nested. Every kernel is laid out on its own, with a
port at its upper edge for each value that it reads and one at its lower edge for each that it passes on; then the
kernels, which form a directed acyclic graph because fusion keeps groups convex, are laid out as boxes with these ports.
Both are done twice: the second time each kernel's ports are in the order of what they lead to.

A picture that would be a ribbon is cut into columns (columns.py). Graphs of thousands of nodes have links over hundreds
of layers: beyond `MOST_BENDS` the longest are cut too. Where a link is cut, the reader is given a "jump" mark beside
the user, named after the producer, which then tells its number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from .columns import GAP
from .columns import columns as in_columns
from .layering import assign_layers, within_width
from .layout import Item, Layout, Link, Point, Spacing, lay_out
from .marks import Arrow, Display, Mark
from .text import columns

LABEL_WIDTH, DETAIL_WIDTH, TITLE_WIDTH = 7.3, 6.1, 6.7
PADDING = 12.0
TITLE_HEIGHT = 24.0
PORT = Item(6.0, 0.0)
SLANT = 8.0
"""How far the ends of ops that are not forward are pointed or slanted."""
MOST_BENDS = 3000
JUMPS_BESIDE = 16
"""Jumps to one mark that stand in a row; further ones stand above them."""
SPANS = (100, 50, 25, 12, 6, 3)
INNER = Spacing(between=16.0, layers=22.0, slope=0.07, most=60.0)
OUTER = Spacing(between=34.0, layers=34.0, slope=0.07, most=110.0)


@dataclass(frozen=True)
class Box:
    """A rectangle, by its corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Path:
    """A line from `source`, ending in an arrow at `target` where that is a mark (>= 0) and at a kernel's edge where it
    is not; dashed when views were folded into it."""

    points: tuple[Point, ...]
    source: int
    target: int = -1
    order: int = 0
    folded: tuple[str, ...] = ()


@dataclass
class Scene:
    """Boxes of the display's marks and of its kernels (by position), the paths, and the lines between columns."""

    display: Display
    marks: list[Box] = field(default_factory=list)
    kernels: dict[int, Box] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    rules: list[float] = field(default_factory=list)


def mark_size(mark: Mark) -> Item:
    """How large a mark is drawn."""
    if not mark.detail:
        return Item(columns(mark.label) * LABEL_WIDTH + 34.0, 24.0)
    details = mark.detail.split("\n")
    width = max(columns(mark.label) * LABEL_WIDTH, *(columns(detail) * DETAIL_WIDTH for detail in details))
    slants = 2 * SLANT - 4.0 if mark.role == "op" and mark.part not in ("", "forward") else 0.0
    return Item(width + slants + 18.0, 24.0 + 12.0 * len(details))


def arrange(display: Display) -> Scene:
    """Place everything."""
    return _Arranger(display).run()


@dataclass
class _Kernel:
    """One kernel's inside: items are its marks, then a port for each value that comes in and goes out."""

    members: list[int]
    enters: list[int]
    leaves: list[int]
    links: list[Link]
    arrows: list[Arrow | None]
    layout: Layout

    def port(self, mark: int, entering: bool) -> int:
        if entering:
            return len(self.members) + self.enters.index(mark)
        return len(self.members) + len(self.enters) + self.leaves.index(mark)

    def port_x(self, mark: int, entering: bool) -> float:
        """The port's distance from the middle of the kernel's box."""
        return self.layout.centres[self.port(mark, entering)][0] - self.layout.left - self.layout.width / 2


class _Arranger:
    def __init__(self, display: Display) -> None:
        self.display = display
        self.marks = list(display.marks)
        self.arrows = list(display.arrows)
        self.place_of: list[int] = []     # of each mark: its kernel's place in the outer layout, or its own
        self.kernels: dict[int, int] = {}
        self.outer_layers: list[int] = []
        self.column_of: list[int] = []
        self.rules: list[float] = []
        self.jumps_to: Counter[int] = Counter()
        self._outer_places()
        self.inside = self._sort_by_kernel()
        self._outer_order()
        if self._cut_long_links():
            self.inside = self._sort_by_kernel()

    # The outer graph.

    def _outer_places(self) -> None:
        count = 0
        for mark in self.marks:
            if mark.kernel >= 0 and mark.kernel in self.kernels:
                self.place_of.append(self.kernels[mark.kernel])
                continue
            if mark.kernel >= 0:
                self.kernels[mark.kernel] = count
            self.place_of.append(count)
            count += 1
        self.outer_layers = [0] * count

    def _outer_order(self) -> None:
        """Layers no wider than a page, and columns."""
        pairs = sorted(self._outer_pairs())
        sizes = self._outer_sizes({kernel: self._inner(kernel, {}) for kernel in self.kernels})
        widths = [item.width + OUTER.between for item in sizes]
        height = sum(item.height + OUTER.layers for item in sizes) / max(len(sizes), 1)
        layers = assign_layers(len(self.outer_layers), pairs)
        self.outer_layers = within_width(layers, pairs, widths, height)
        self.column_of = in_columns(self.outer_layers, pairs, [
            (width, item.height) for width, item in zip(widths, sizes, strict=True)], OUTER.layers * 1.4)
        self._pull_leaves(pairs)

    def _pull_leaves(self, pairs: Sequence[tuple[int, int]]) -> None:
        """What reads nothing goes to the column of its first reader."""
        readers: dict[int, list[int]] = {}
        for source, target in pairs:
            readers.setdefault(source, []).append(target)
        for place in set(readers) - {target for _, target in pairs}:
            column, layer = min((self.column_of[each], self.outer_layers[each]) for each in readers[place])
            if column != self.column_of[place]:
                self.column_of[place], self.outer_layers[place] = column, layer - 1

    def _outer_pairs(self) -> set[tuple[int, int]]:
        return {(self.place_of[arrow.source], self.place_of[arrow.target]) for arrow in self._outer_arrows()}

    def _outer_arrows(self) -> list[Arrow]:
        return [arrow for arrow in self.arrows if self.place_of[arrow.source] != self.place_of[arrow.target]]

    def _span(self, arrow: Arrow) -> int:
        return self.outer_layers[self.place_of[arrow.target]] - self.outer_layers[self.place_of[arrow.source]]

    def _cut_long_links(self) -> bool:
        """Cut what leads to another column, and then the longest; whether there was any."""
        before = len(self.marks)
        if max(self.column_of, default=0):
            self._cut_beyond(len(self.outer_layers))
        for limit in SPANS:
            longest: dict[int, int] = {}
            for arrow in self._outer_arrows():
                longest[arrow.source] = max(longest.get(arrow.source, 0), self._span(arrow))
            if sum(longest.values()) <= MOST_BENDS:
                break
            self._cut_beyond(limit)
        return len(self.marks) > before

    def _cut_beyond(self, limit: int) -> None:
        jumps: dict[tuple[int, int], int] = {}
        for number, arrow in enumerate(self.arrows):
            place, source = self.place_of[arrow.target], self.place_of[arrow.source]
            near = self._span(arrow) <= limit and self.column_of[source] == self.column_of[place]
            if source == place or near:
                continue
            key = (arrow.source, place)
            if key not in jumps:
                jumps[key] = self._jump(arrow.source, self.marks[arrow.target], place)
            self.arrows[number] = Arrow(jumps[key], arrow.target, arrow.order, arrow.folded)

    def _jump(self, number: int, target: Mark, place: int) -> int:
        source = self.marks[number]
        told = f"%{source.node} "
        if source.role not in ("input", "variable", "constant") and not source.label.startswith(told):
            source = self.marks[number] = replace(source, label=told + source.label)
        self.marks.append(Mark("jump", source.label, "", "computed elsewhere:\n" + source.tooltip, source.node,
                               target.kernel, source.part))
        if target.kernel >= 0:
            self.place_of.append(place)
        else:
            self.jumps_to[place] += 1
            self.place_of.append(len(self.outer_layers))
            self.outer_layers.append(self.outer_layers[place] - 1 - self.jumps_to[place] // JUMPS_BESIDE)
            self.column_of.append(self.column_of[place])
        return len(self.marks) - 1

    def _sort_by_kernel(self) -> dict[int, tuple[list[int], list[Arrow]]]:
        """Marks of each kernel, and the arrows that begin or end in it."""
        inside: dict[int, tuple[list[int], list[Arrow]]] = {kernel: ([], []) for kernel in self.kernels}
        for number, mark in enumerate(self.marks):
            if mark.kernel >= 0:
                inside[mark.kernel][0].append(number)
        for arrow in self.arrows:
            for kernel in {self.marks[arrow.source].kernel, self.marks[arrow.target].kernel} - {-1}:
                inside[kernel][1].append(arrow)
        return inside

    # Layouts.

    def run(self) -> Scene:
        inner = {kernel: self._inner(kernel, {}) for kernel in self.kernels}
        links, keys = self._outer_links(inner)
        outer = self._outer(inner, links)
        if inner:
            hints = self._port_hints(keys, links, outer)
            inner.update((kernel, self._inner(kernel, hints)) for kernel, made in inner.items()
                         if len(made.enters) > 1 or len(made.leaves) > 1)
            links, keys = self._outer_links(inner)
            outer = self._outer(inner, links)
        return self._scene(inner, keys, outer)

    def _inner(self, kernel: int, hints: dict[tuple[int, int, bool], float]) -> _Kernel:
        """Lay out one kernel. `hints` are wanted positions of (kernel, mark, whether it enters)."""
        members, touching = self.inside[kernel]
        index = {mark: number for number, mark in enumerate(members)}
        enters = list(dict.fromkeys(arrow.source for arrow in touching if arrow.source not in index))
        leaves = list(dict.fromkeys(arrow.source for arrow in touching if arrow.target not in index))
        made = _Kernel(members, enters, leaves, [], [], Layout([], [], [], 0, 0, 0))
        for arrow in touching:
            if arrow.target in index:
                source = index[arrow.source] if arrow.source in index else made.port(arrow.source, True)
                made.links.append(Link(source, index[arrow.target]))
                made.arrows.append(arrow)
        for mark in leaves:
            made.links.append(Link(index[mark], made.port(mark, False)))
            made.arrows.append(None)
        items = [mark_size(self.marks[mark]) for mark in members] + [PORT] * (len(enters) + len(leaves))
        first = [made.port(mark, True) for mark in enters]
        last = [made.port(mark, False) for mark in leaves]
        wanted = {made.port(mark, entering): hints[kernel, mark, entering]
                  for entering, marks in ((True, enters), (False, leaves)) for mark in marks
                  if (kernel, mark, entering) in hints}
        made.layout = lay_out(items, made.links, INNER, first=first, last=last, hints=wanted)
        return made

    def _outer_links(self, inner: dict[int, _Kernel]) -> tuple[list[Link], list[tuple[int, Arrow]]]:
        """One link for each value and each place that reads it, and (value, one of its arrows) for each link."""
        links, keys, seen = [], [], set()
        for arrow in self._outer_arrows():
            place = self.place_of[arrow.target]
            source, target = self.marks[arrow.source], self.marks[arrow.target]
            if (arrow.source, place) in seen and target.kernel >= 0:
                continue
            seen.add((arrow.source, place))
            leaves = inner[source.kernel].port_x(arrow.source, False) if source.kernel >= 0 else 0.0
            arrives = inner[target.kernel].port_x(arrow.source, True) if target.kernel >= 0 else 0.0
            links.append(Link(self.place_of[arrow.source], place, leaves, arrives))
            keys.append((arrow.source, arrow))
        return links, keys

    def _outer_sizes(self, inner: dict[int, _Kernel]) -> list[Item]:
        items = [Item(0.0, 0.0)] * len(self.outer_layers)
        for number, mark in enumerate(self.marks):
            if mark.kernel < 0:
                items[self.place_of[number]] = mark_size(mark)
        for kernel, place in self.kernels.items():
            items[place] = self._kernel_size(kernel, inner[kernel].layout)
        return items

    def _kernel_size(self, kernel: int, layout: Layout) -> Item:
        title = columns(self.display.kernels[kernel]) * TITLE_WIDTH + 16.0
        return Item(max(layout.width + 2 * PADDING, title), layout.height + TITLE_HEIGHT + PADDING)

    def _outer(self, inner: dict[int, _Kernel], links: Sequence[Link]) -> Layout:
        """The columns side by side, as one layout."""
        items = self._outer_sizes(inner)
        found = Layout([(0.0, 0.0)] * len(items), [[]] * len(links), self.outer_layers, 0.0, 0.0, 0.0)
        self.rules = []
        for column in range(max(self.column_of, default=-1) + 1):
            self._column(found, column, items, links)
        return found

    def _column(self, found: Layout, column: int, items: Sequence[Item], links: Sequence[Link]) -> None:
        if column:
            self.rules.append(found.width + GAP / 2)
            found.width += GAP
        places = [place for place, each in enumerate(self.column_of) if each == column]
        index = {place: number for number, place in enumerate(places)}
        inside = [number for number, link in enumerate(links) if link.source in index]
        ranks = {layer: rank for rank, layer in enumerate(sorted({self.outer_layers[place] for place in places}))}
        layout = lay_out([items[place] for place in places],
                         [replace(links[number], source=index[links[number].source],
                                  target=index[links[number].target]) for number in inside],
                         OUTER, layers=[ranks[self.outer_layers[place]] for place in places])
        shift = found.width - layout.left
        for place, (x, y) in zip(places, layout.centres, strict=True):
            found.centres[place] = (x + shift, y)
        for number, route in zip(inside, layout.routes, strict=True):
            found.routes[number] = [(x + shift, y) for x, y in route]
        found.width, found.height = found.width + layout.width, max(found.height, layout.height)

    def _port_hints(self, keys: Sequence[tuple[int, Arrow]], links: Sequence[Link],
                    outer: Layout) -> dict[tuple[int, int, bool], float]:
        """Where each port's other end lies: the source, or the middle of the readers."""
        hints: dict[tuple[int, int, bool], float] = {}
        readers: dict[tuple[int, int, bool], list[float]] = {}
        for (value, arrow), link, route in zip(keys, links, outer.routes, strict=True):
            source, target = self.marks[arrow.source], self.marks[arrow.target]
            if target.kernel >= 0:
                hints[target.kernel, value, True] = route[-3][0] if len(route) > 4 else route[0][0]
            if source.kernel >= 0:
                end = route[2][0] if len(route) > 4 else outer.centres[link.target][0] + link.target_port
                readers.setdefault((source.kernel, value, False), []).append(end)
        hints.update((key, sum(found) / len(found)) for key, found in readers.items())
        return hints

    # The scene.

    def _scene(self, inner: dict[int, _Kernel], keys: Sequence[tuple[int, Arrow]], outer: Layout) -> Scene:
        shown = Display(self.display.stage, self.marks, self.arrows, self.display.kernels,
                        self.display.tooltips)
        scene = Scene(shown, width=outer.width, height=outer.height, rules=self.rules)
        places: list[Box | None] = [None] * len(self.marks)
        for number, mark in enumerate(self.marks):
            if mark.kernel < 0:
                x, y = outer.centres[self.place_of[number]]
                places[number] = _centred(x - outer.left, y, mark_size(mark))
        for (value, arrow), route in zip(keys, outer.routes, strict=True):
            moved = tuple((x - outer.left, y) for x, y in route)
            ends = self.marks[arrow.target].kernel < 0
            scene.paths.append(Path(moved, value, arrow.target, arrow.order, arrow.folded) if ends
                               else Path(moved, value))
        for kernel, place in self.kernels.items():
            self._kernel_scene(scene, places, kernel, inner[kernel], outer, place)
        scene.marks = [box for box in places if box is not None]
        scene.paths = _without_repeats(_without_plain_orders(scene.paths))
        return scene

    def _kernel_scene(self, scene: Scene, places: list[Box | None], kernel: int, made: _Kernel, outer: Layout,
                      place: int) -> None:
        x, y = outer.centres[place][0] - outer.left, outer.centres[place][1]
        layout = made.layout
        box = _centred(x, y, self._kernel_size(kernel, layout))
        scene.kernels[kernel] = box
        shift_x = x - layout.left - layout.width / 2
        shift_y = box.y + TITLE_HEIGHT
        for number, mark in enumerate(made.members):
            centre = layout.centres[number]
            places[mark] = _centred(centre[0] + shift_x, centre[1] + shift_y, mark_size(self.marks[mark]))
        for link, arrow, route in zip(made.links, made.arrows, layout.routes, strict=True):
            moved = [(x + shift_x, y + shift_y) for x, y in route]
            if link.source >= len(made.members):     # from the box's edge through its title to the port
                moved.insert(0, (moved[0][0], box.y))
                value = made.enters[link.source - len(made.members)]
            else:
                value = made.members[link.source]
            if arrow is None:
                moved.append((moved[-1][0], box.y + box.height))
                scene.paths.append(Path(tuple(moved), value))
            else:
                scene.paths.append(Path(tuple(moved), value, arrow.target, arrow.order, arrow.folded))


def _centred(x: float, y: float, size: Item) -> Box:
    return Box(x - size.width / 2, y - size.height / 2, size.width, size.height)


def _without_plain_orders(paths: Sequence[Path]) -> list[Path]:
    """Operands are numbered only where they do not arrive from left to right."""
    arriving: dict[int, list[tuple[float, int]]] = {}
    for path in paths:
        if path.order:
            arriving.setdefault(path.target, []).append((path.points[-1][0], path.order))
    plain = {target for target, ends in arriving.items() if [order for _, order in sorted(ends)] == sorted(
        order for _, order in ends)}
    return [replace(path, order=0) if path.target in plain else path for path in paths]


def _without_repeats(paths: Sequence[Path]) -> list[Path]:
    """Trunks that several paths share are drawn by the first of them."""
    drawn: set[tuple[Point, Point]] = set()
    kept = []
    for path in paths:
        start = 0
        while start < len(path.points) - 2 and (path.points[start], path.points[start + 1]) in drawn:
            start += 1
        points = path.points[start:]
        drawn.update(pairwise(points))
        kept.append(Path(points, path.source, path.target, path.order, path.folded))
    return kept
