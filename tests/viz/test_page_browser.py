"""The explorer in a real browser, as a person uses it: nothing on the console, no request, and everything works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from tests.browser import PHONE, chromium, opened
from tests.viz.graphs import HOSTILE, compiled, residual, training

PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "small.html"
    sg.viz.export(compiled(), path)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand nodes in scopes."""
    path = tmp_path_factory.mktemp("pages") / "large.html"
    value = residual(400)
    with sg.name_scope("end"):
        value = sg.sum(sg.exp(value))
    sg.viz.export(value, path)
    return path


def title(tab: Any) -> str:
    return str(tab.inner_text(".details h2"))


def count(tab: Any, query: str) -> int:
    return int(tab.locator(query).count())


def mark_of(tab: Any, label: str) -> Any:
    """The first operation with this label."""
    return tab.locator(".frame .mark.op").filter(has=tab.locator("text.label", has_text=re.compile(f"^{label}"))).first


def test_a_click_on_a_node_shows_what_it_is(browser: Any, small: Path) -> None:
    with opened(browser, small, "#tensor") as tab:
        tab.locator(".zoom button", has_text="fit").click()
        mark_of(tab, "cross_entropy").click()
        assert re.fullmatch(r"%\d+ cross_entropy", title(tab)) and "#tensor/" in tab.url
        details = tab.inner_text(".details")
        assert "sg.nn.cross_entropy(hidden @ w2, t)" in details and "float32[batch]" in details
        assert count(tab, ".frame .chosen") >= 1 and count(tab, ".frame .path.hot") >= 2
        tab.locator(".details section", has_text="INPUTS").locator("a", has_text="matmul").click()
        assert title(tab).endswith("matmul")
        tab.go_back()
        assert title(tab).endswith("cross_entropy")
        tab.locator(".details section", has_text="GRADIENT PARTNERS").locator("a").first.click()
        assert "backward" in tab.inner_text(".details .chips")
        tab.locator(".details section", has_text="IS THE GRADIENT SIDE OF").locator("a").first.click()
        assert title(tab).endswith("cross_entropy")


def test_a_kernel_shows_its_source_cost_and_buffers(browser: Any, small: Path) -> None:
    with opened(browser, small) as tab:
        tab.locator(".group.kernel .title").first.click()
        assert title(tab).startswith("step 0") and "def " in tab.inner_text(".source")
        assert count(tab, ".source .py-word") > 3 and "flops" in tab.inner_text(".details")
        assert "goes to step 1" in tab.locator(".details section", has_text="KERNEL OF ITS OWN").inner_text()
        tab.locator(".details section", has_text="WRITES").locator("a").first.click()
        assert "#memory/buffer" in tab.url and tab.locator(".memory tr.chosen").is_visible()
        tab.locator(".details section", has_text="WRITTEN BY").locator("a").first.click()
        assert "#fused/step" in tab.url and count(tab, ".group.kernel.chosen") >= 1


def test_groups_close_and_open_and_stay_where_they_are(browser: Any, small: Path) -> None:
    with opened(browser, small) as tab:
        whole = count(tab, ".frame .mark")
        first = tab.locator(".group.kernel.open").first
        before = first.bounding_box()
        tab.locator(".toggle").first.click()
        assert count(tab, ".frame .mark") < whole and count(tab, ".group.closed") == 1
        after = tab.locator(".group.closed").bounding_box()
        assert abs(after["y"] - before["y"]) < 6
        tab.click("#close-all")
        assert count(tab, ".frame .mark.op") == 0 and count(tab, ".group.closed") > 5
        tab.locator(".group.closed").first.dblclick()
        assert count(tab, ".frame .mark.op") > 0 and count(tab, ".group.open rect") == 1
        tab.click("#open-all")
        assert count(tab, ".frame .mark") == whole
        tab.select_option("#grouping", "scope")
        assert "hidden" in tab.locator(".group.open .title").all_text_contents()
        assert count(tab, ".group.backward") >= 1


def test_boxes_hold_what_is_theirs_and_marks_do_not_overlap(browser: Any, small: Path) -> None:
    with opened(browser, small, "#primitive") as tab:
        assert tab.input_value("#grouping") == "scope"
        boxes = tab.evaluate("""() => [...document.querySelectorAll('.frame .mark > .body')].map((each) => {
            const box = each.getBBox(); return [box.x, box.y, box.x + box.width, box.y + box.height]; })""")
        assert len(boxes) > 20
        for number, (left, top, right, foot) in enumerate(boxes):
            for other in boxes[number + 1:]:
                assert right <= other[0] + 1 or other[2] <= left + 1 or foot <= other[1] + 1 or other[3] <= top + 1


def test_search_finds_marks_and_goes_through_the_matches(browser: Any, small: Path) -> None:
    with opened(browser, small) as tab:
        tab.click("#close-all")
        tab.fill("#find", "matmul")
        assert tab.inner_text(".search .count") == "5" and count(tab, ".group.closed.found") == 5
        tab.press("#find", "Enter")
        assert tab.inner_text(".search .count") == "1 of 5" and count(tab, ".frame .mark.found") == 1
        first = title(tab)
        assert first.endswith("matmul")
        tab.press("#find", "Enter")
        assert title(tab) != first
        tab.press("#find", "Shift+Enter")
        assert title(tab) == first
        for part in ("forward", "backward"):     # a gradient has the scope of what it is the gradient of
            tab.fill("#find", f"graphs.py matmul hidden {part}")
            assert tab.inner_text(".search .count") == "1"
        tab.fill("#find", "no such thing")
        assert tab.inner_text(".search .count") == "none"
        tab.press("#find", "Escape")
        assert count(tab, ".found") == 0


def test_the_picture_moves_and_zooms(browser: Any, small: Path) -> None:
    with opened(browser, small) as tab:
        def place() -> str:
            return str(tab.get_attribute(".inner", "transform"))

        places = [place()]
        box = tab.locator(".frame").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x + 90, y + 40, steps=4)
        tab.mouse.up()
        places.append(place())
        assert "#fused/" not in tab.url     # a drag is no click
        tab.mouse.wheel(0, -400)
        tab.wait_for_function("(old) => document.querySelector('.inner').getAttribute('transform') !== old",
                              arg=places[-1])
        places.append(place())
        tab.focus(".frame")
        for key in ("ArrowLeft", "+", "-", "ArrowUp", "0"):
            tab.keyboard.press(key)
            places.append(place())
        assert all(a != b for a, b in pairwise(places))
        tab.keyboard.press("n")
        assert re.search(r"#fused/\d+$", tab.url) and title(tab).startswith("%")


def test_colours_follow_the_system_until_the_switch_is_used(browser: Any, small: Path) -> None:
    with opened(browser, small, colours="dark") as tab:
        assert tab.evaluate(PAPER) == "rgb(20, 24, 29)"
        tab.emulate_media(color_scheme="light")
        tab.wait_for_function(f"() => {PAPER} === 'rgb(255, 255, 255)'")
        tab.click("#theme")
        assert tab.evaluate(PAPER) == "rgb(20, 24, 29)" and tab.inner_text("#theme") == "light"
        tab.reload()
        assert tab.evaluate(PAPER) == "rgb(20, 24, 29)"     # it is remembered


def test_the_slider_goes_through_the_history(browser: Any, small: Path) -> None:
    with opened(browser, small, "#history") as tab:
        tab.focus("#moment")
        moments = int(tab.get_attribute("#moment", "max")) + 1
        assert moments > 8 and "before all passes" in tab.inner_text(".moment")
        assert count(tab, ".history .taken") > 0
        seen = set()
        for number in range(1, moments):
            tab.keyboard.press("ArrowRight")
            tab.wait_for_function("(at) => location.hash === `#history/${at}`", arg=number)
            seen.add(tab.inner_text(".moment h2").split("  ")[0])
        assert "after settle" in seen and any(text.startswith("expand-cross_entropy") for text in seen)
        tab.select_option("#rule", "expand-cross_entropy")
        assert tab.inner_text(".moment h2").startswith("expand-cross_entropy")
        figures = tab.locator(".sides figure")
        assert "cross_entropy" in figures.nth(0).inner_text() and "cross_entropy" not in figures.nth(1).inner_text()
        assert "sg.nn.cross_entropy(hidden @ w2, t)" in tab.inner_text(".details")
        tab.select_option("#rule", "fuse")
        assert figures.nth(0).locator(".group").count() == 0 and figures.nth(1).locator(".group.open rect").count() == 1
        tab.select_option("#rule", "expand-cross_entropy")
        tab.locator(".sides figure").first.locator(".root").click()
        assert title(tab).endswith("cross_entropy")
        tab.go_back()
        tab.locator(".details a", has_text="tensor").first.click()     # to the node, and back by what was done to it
        assert title(tab).endswith("cross_entropy")
        tab.locator(".details section", has_text="WHAT WAS DONE TO IT").locator("a").first.click()
        assert tab.inner_text(".moment h2").startswith("expand-cross_entropy")


def test_it_fits_a_phone(browser: Any, small: Path) -> None:
    with opened(browser, small, viewport=PHONE) as tab:
        for name in ("fused", "program", "history", "memory"):
            tab.locator(".tabs a", has_text=name).click()
            assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"], name
        tab.locator(".tabs a", has_text="tensor").click()
        tab.locator(".frame .mark.op").first.click()
        assert title(tab).startswith("%")


def test_two_thousand_nodes_open_at_once(browser: Any, large: Path) -> None:
    with opened(browser, large, "#tensor") as tab:
        closed = count(tab, ".frame .mark")
        assert closed < 200
        tab.click("#open-all")
        assert count(tab, ".frame .mark.op") > 1500
        tab.fill("#find", "exp end")
        tab.press("#find", "Enter")
        assert title(tab).endswith("exp") and "scope\nend" in tab.inner_text(".details dl")
        tab.select_option("#grouping", "none")
        assert count(tab, ".frame .mark.op") > 1500 and count(tab, ".group") == 0


@pytest.mark.parametrize("stage", ["tensor", "fused", "program"])
def test_every_arrow_ends_in_a_direction(browser: Any, small: Path, stage: str) -> None:
    """An end without a length would leave its arrowhead lying on its side."""
    with opened(browser, small, f"#{stage}") as tab:
        ways = tab.locator(".frame .path").evaluate_all("paths => paths.map((each) => each.getAttribute('d'))")
        assert len(ways) > 10
        for way in ways:
            places = [tuple(map(float, piece.split()[-2:])) for piece in re.split("[MLC]", way) if piece]
            assert len(places) > 1 and all(a != b for a, b in pairwise(places))


def test_a_kernel_that_is_asked_for_is_shown_even_in_a_closed_scope(browser: Any, tmp_path: Path) -> None:
    value: Any = sg.placeholder("x", shape=("n", 2))
    for number in range(50):
        with sg.name_scope(f"half{number // 25}"):
            value = value @ sg.constant([[1.0, 2.0], [3.0, float(number)]])
    sg.viz.export(value, tmp_path / "page.html", "fused")
    with opened(browser, tmp_path / "page.html", "#fused/step30") as tab:
        assert title(tab).startswith("step 30") and tab.locator(".group.kernel.chosen").first.is_visible()
        assert count(tab, ".group.open rect") == 1
    with opened(browser, tmp_path / "page.html", "#program/step30") as tab:
        assert tab.locator(".mark.chosen").first.is_visible() and count(tab, ".group.open rect") >= 1


def test_texts_on_arrows_are_part_of_the_picture(browser: Any, large: Path) -> None:
    with opened(browser, large, viewport=PHONE) as tab:
        tab.click("#close-all")
        tab.locator(".zoom button", has_text="fit").click()
        boxes = tab.evaluate("['svg.frame', '.flow'].map((query) => Array.from(document.querySelectorAll(query))"
                             ".map((each) => each.getBoundingClientRect()).map((box) => [box.left, box.right]))")
        [[left, right]], texts = boxes
        assert texts and all(left - 1 <= start and end <= right + 1 for start, end in texts)


def test_what_everything_reads_is_counted_and_its_arrows_are_left_out(browser: Any, tmp_path: Path) -> None:
    w = sg.variable([[1.0, 0.0], [0.0, 1.0]], name="shared")
    value: Any = sg.placeholder("x", shape=("n", 2))
    for number in range(30):
        with sg.name_scope(f"t{number}"):
            value = sg.tanh(sg.exp(value @ w) + value)
    sg.viz.export(value, tmp_path / "page.html", "tensor")
    with opened(browser, tmp_path / "page.html") as tab:
        tab.click("#close-all")
        assert tab.locator(".mark.variable text.readers").text_content() == "read by 30"
        assert count(tab, ".frame .path") == 30
        tab.locator(".group.closed").first.dblclick()
        assert count(tab, ".group.open rect") == 1 and count(tab, "text.readers") == 1


def test_names_of_all_kinds_are_only_text(browser: Any, tmp_path: Path) -> None:
    inputs, loss, updates = training((HOSTILE, HOSTILE + "2"))
    with sg.name_scope(HOSTILE):
        value = loss + 1.0
    path = tmp_path / "hostile.html"
    sg.viz.export(sg.compile(inputs, {HOSTILE: value}, updates=updates), path)
    with opened(browser, path, "#tensor") as tab:
        for name in ("tensor", "program", "history", "memory"):
            tab.locator(".tabs a", has_text=name).click()
        tab.locator(".tabs a", has_text="fused").click()
        tab.locator(".frame .mark.input").first.click()
        assert "<script>alert('x')</script>" in tab.inner_text(".details")


def test_two_compiles_against_each_other(browser: Any, tmp_path: Path) -> None:
    inputs, loss, updates = training()
    path = tmp_path / "diff.html"
    first, second = (compile_only(inputs, each, updates=updates) for each in (loss, sg.exp(loss)))
    sg.viz.export_diff(first, second, path)
    with opened(browser, path) as tab:
        assert "rules" in tab.inner_text(".report") and tab.locator("tr.differs").first.is_visible()
        tab.locator(".tabs a", has_text="tensor").click()
        tab.click("#next-change")
        assert title(tab).endswith("exp") and "added" in tab.inner_text(".details .chips")
        assert count(tab, ".frame .mark.added") >= 1 and count(tab, ".frame .mark.same") > 10
        tab.locator(".tabs a", has_text="kernels").click()
        assert count(tab, ".compared .plus") >= 1


def test_a_wide_picture_in_a_notebook_begins_where_something_is(browser: Any, tmp_path: Path) -> None:
    first = sg.exp(sg.placeholder("x", shape=("n", 2)))
    wide = sg.stack([sg.tanh(first * float(number)) for number in range(2, 40)])
    (tmp_path / "page.html").write_text("<!doctype html><meta charset='utf-8'><h1>above</h1>"
                                        + sg.viz.graph(sg.sum(wide))._repr_html_(), encoding="utf-8")
    with opened(browser, tmp_path / "page.html", viewport={"width": 600, "height": 400}) as tab:
        if not tab.evaluate("CSS.supports('scroll-initial-target: nearest')"):
            pytest.skip("this browser begins at the left")
        tab.wait_for_timeout(100)
        assert tab.evaluate("document.querySelector('body > div').scrollLeft") > 0 == tab.evaluate("scrollY")
        first_mark = tab.locator("svg text", has_text=re.compile("^x$")).first.bounding_box()
        assert 0 <= first_mark["x"] <= 600 - first_mark["width"]
