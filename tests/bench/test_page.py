"""The report's page as text: one file, nothing of which leads elsewhere, and nothing of a record in it as markup."""

import json
import re
from html.parser import HTMLParser

import pytest

from staticgraph.bench.page import page
from staticgraph.viz.plots import Point, overview, ratio_bar, ratio_place, roofline, time_bar

from .records import COMPILE, RECORD, RUN, TIMING, changed

VOID = {"meta", "input"}


class Outline(HTMLParser):
    """Checks that elements are closed in order, and keeps what could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.leads: list[tuple[str, str]] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.leads += [(name, value or "") for name, value in attrs if name in ("src", "href", "action", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


FULL = {**RECORD, "runs": [RUN, {**RUN, "threads": 2}],
        "compile": [COMPILE, {**COMPILE, "peer": "jax"}, {"case": "mlp_step", "peer": "pytensor", "failed": "no"}]}


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_a_page_is_whole_and_leads_nowhere() -> None:
    text = page(FULL)
    found = outline(text)
    assert found.leads == [] and "url(" not in text and "http" not in text.replace("http-equiv", "")
    assert {"svg", "table", "script", "style", "select", "details"} <= found.seen
    assert "default-src 'none'" in text and 'name="viewport"' in text


def test_a_page_says_what_the_report_says() -> None:
    text = page(FULL)
    for expected in ("chain 64k", "20.0 µs", "3.00×", "✓ 2.00x reached", "figures reached", "mlp_step warm",
                     "2 threads", "torch is left out: torch is not installed", "compile of mlp_step, pytensor: no"):
        assert expected in text, expected
    assert "✗ 2.00x missed by 20%" in page(changed(contestants={"staticgraph": TIMING,
                                                           "numpy": {**TIMING, "times_slower": 1.6}}))
    assert "staticgraph failed: off" in page(changed(contestants={}, wrong={"staticgraph": "off"}))


def test_nothing_of_a_record_becomes_markup() -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\'&'
    record = {**changed(case=evil, title=evil, label=evil, suite=evil, absent={evil: evil}, wrong={evil: evil},
                        contestants={"staticgraph": TIMING, evil: TIMING}), "model": evil}
    found = outline(page(record))
    assert "img" not in found.seen and found.leads == []
    assert page(record).count("<script") == 2


def test_the_record_can_be_read_back() -> None:
    found = re.search(r'<script type="application/json" id="record">(.*?)</script>', page(FULL), re.DOTALL)
    assert found is not None and json.loads(found[1]) == FULL


def test_an_empty_record_is_a_page() -> None:
    outline(page({**RECORD, "runs": []}))


def test_bars_lie_where_their_ratios_are() -> None:
    assert [ratio_place(value) for value in (0.25, 1, 4, 64)] == pytest.approx([0, 25, 50, 100])
    assert ratio_place(0.01) == 0 and ratio_place(1e6) == 100
    assert 'class="ahead" x="25.00%" width="25.00%"' in ratio_bar(4.0)
    assert 'class="behind" x="12.50%" width="12.50%"' in ratio_bar(0.5)
    assert 'class="wanted" x1="37.50%"' in ratio_bar(4.0, 2.0) and "wanted" not in ratio_bar(4.0)
    assert 'width="50.00%"' in time_bar(1.0, 2.0, "cold", "half")


def test_the_overview_is_a_document_of_its_own() -> None:
    text = overview([("rows", "a <b>", 2.0, "jax", True), ("rows", "c", 0.1, "numpy", False),
                     ("conv", "d", 900.0, "torch", None)], "title & more")
    outline(text)
    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"') and text.count("<rect") == 4
    assert "✓ 2.00× jax" in text and "✗ 0.10× numpy" in text and ">900× torch" in text and "a &lt;b&gt;" in text


def test_the_roofline_holds_every_point_that_has_a_place() -> None:
    points = [Point("a", 0.1, 3.0, 0), Point("b", 1e9, 1e-9, 1), Point("no operations", 0.0, 0.0, 2)]
    text = roofline(points, 40.0, 200.0)
    assert text.count("<circle") == 2 and text.count("<polyline") == 1
    places = [float(value) for value in re.findall(r'c[xy]="([\d.]+)"', text)]
    assert len(places) == 4 and all(0 <= place <= 640 for place in places)
    assert roofline([], 40.0, 200.0) == "" and roofline(points, 0.0, 200.0) == ""
