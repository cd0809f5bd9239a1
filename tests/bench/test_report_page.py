"""The report's page in a real browser: it says nothing on the console, asks for nothing, and its controls work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staticgraph.bench.page import page
from tests.browser import PHONE, chromium
from tests.browser import opened as open_page

from .records import COMPILE, RECORD, RUN, TIMING

CASE = RUN["cases"][0]
CONTESTANTS = {"staticgraph": TIMING, "numpy": {**TIMING, "median_s": 6e-5, "times_slower": 3.0},
               "jax": {**TIMING, "median_s": 1e-5, "times_slower": 0.5}}
CASES = [{**CASE, "contestants": CONTESTANTS}, {**CASE, "case": "softmax", "suite": "rows", "contestants": CONTESTANTS}]
FULL = {**RECORD, "runs": [{**RUN, "cases": CASES}, {**RUN, "threads": 2, "cases": CASES}],
        "compile": [COMPILE, {**COMPILE, "peer": "jax"}]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page on a phone."""
    file = tmp_path / "report.html"
    file.write_text(page(FULL), encoding="utf-8")
    with open_page(browser, file, viewport=PHONE) as tab:
        yield tab


def test_it_fits_a_phone(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") == 380
    assert opened.locator("svg.bar rect").first.bounding_box()["width"] > 0


def test_colours_change_and_keep_their_contrast(opened: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert opened.evaluate(paper) == "rgb(255, 255, 255)"
    opened.click("#theme")
    assert opened.evaluate(paper) == "rgb(20, 24, 29)"
    assert opened.inner_text("#theme") == "light colours"


def test_peers_runs_and_cases_are_chosen(opened: Any) -> None:
    rows = opened.locator('section[data-run="0"] .row[data-of="jax"]')
    assert rows.first.is_visible()
    opened.uncheck('input[data-peer="jax"]')
    assert not rows.first.is_visible()
    opened.check('input[data-peer="jax"]')
    opened.fill("#find", "softmax")
    visible = opened.locator("section[data-run] .case:visible h3").all_inner_texts()
    assert visible == ["softmax 64k"]
    assert opened.locator("h2:visible").all_inner_texts()[:1] == ["rows, one thread"]
    opened.fill("#find", "")
    assert not opened.locator('section[data-run="1"]').is_visible()
    opened.select_option("#run", "1")
    assert opened.locator('section[data-run="1"]').is_visible()
    assert not opened.locator('section[data-run="0"]').is_visible()


def test_tables_open_and_sort(opened: Any) -> None:
    section = opened.locator('section[data-run="0"] details').first
    section.locator("summary").click()
    head = section.locator("th", has_text="numpy")
    head.click()
    assert head.get_attribute("data-sort") == "down"
    head.click()
    assert head.get_attribute("data-sort") == "up"
