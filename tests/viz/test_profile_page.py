"""The page of a profile: complete, safe with any name, sound in a real browser, light and dark, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.errors import ArgumentError
from staticgraph.runtime.cpu import profiled
from staticgraph.runtime.cpu.peak import Peaks
from staticgraph.runtime.profile import Profile
from staticgraph.viz.profile import SUFFIXES, profile_page, render_profile
from tests.browser import PHONE, chromium, opened
from tests.viz.graphs import HOSTILE, training


@pytest.fixture(scope="module")
def profile() -> Profile:
    inputs, loss, updates = training((HOSTILE.replace("\ud800", ""), HOSTILE.replace("\ud800", "")))
    step = sg.compile(inputs, loss, updates=updates, options={"threads": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("staticgraph.runtime.profile.BUDGET", 0.0)
        patch.setattr(profiled, "measured_peaks", lambda threads: Peaks(threads, 20.0, 200.0, 100.0))
        return step.profile(np.ones((30, 8), "float32"), np.zeros(30, "int64"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(profile: Profile, tmp_path: Path) -> Path:
    file = tmp_path / "profile.html"
    sg.viz.export_profile(profile, file, title="path/to/<model>.py:step")
    return file


def test_the_page_holds_everything(profile: Profile) -> None:
    page = profile_page(profile, HOSTILE)
    assert profile.program is not None
    for heading in ("Where the time of a call goes", "Steps", "Roofline", "Memory", "Compile", "Sources of kernels"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count('<details id="kernel') == len(profile.program.kernels)
    assert page.count("<script>") == 1 and "alert(" not in page.replace("alert(&#x27;x&#x27;)", "").replace(
        "alert(&#39;x&#39;)", "")
    data = page.partition('id="record">')[2].partition("</script>")[0]
    assert json.loads(data) == json.loads(json.dumps(profile.to_json()))


def test_every_suffix(profile: Profile, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        sg.viz.export_profile(profile, tmp_path / f"p{suffix}")
    picture = ElementTree.fromstring((tmp_path / "p.svg").read_text(encoding="utf-8"))
    texts = " ".join("".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}text"))
    longest = max((step for step in profile.steps if step.flops), key=lambda step: step.seconds)
    assert "Roofline: steps in float32, 2 threads, batch = 30" in texts
    assert f"{longest.number}  {longest.kernel[:20]}" in texts
    assert json.loads((tmp_path / "p.json").read_text())["kind"] == "profile"
    assert json.loads((tmp_path / "p.trace.json").read_text())["traceEvents"]
    assert "accounted for" in (tmp_path / "p.txt").read_text(encoding="utf-8")
    with pytest.raises(ArgumentError, match=r"its suffix is not one of \.html"):
        render_profile(profile, "p.pdf")
    with pytest.raises(ArgumentError, match="has no roofline"):
        render_profile(replace(profile, peaks=None), "p.svg")


def test_a_notebook_shows_the_table(profile: Profile) -> None:
    shown = profile._repr_html_()
    assert shown is not None and "accounted for" in shown and "<script" not in shown
    assert replace(profile, display_hook=None)._repr_html_() is None


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_opens_in_both_themes(browser: Any, page: Path, colours: str) -> None:
    with opened(browser, page, colours=colours) as tab:
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if colours == "light" else "rgb(20, 24, 29)")
        plan = tab.evaluate("getComputedStyle(document.querySelector('.sgm-paper')).fill")
        assert plan == paper
        tab.click("#theme")
        assert tab.evaluate("getComputedStyle(document.querySelector('.sgm-paper')).fill") != plan
        assert tab.inner_text("header code") == "path/to/<model>.py:step"


def test_steps_are_sorted_and_lead_to_their_kernels(browser: Any, page: Path, profile: Profile) -> None:
    with opened(browser, page) as tab:
        tab.locator("table.steps th", has_text="time").click()
        times = tab.locator("table.steps tbody tr td:nth-child(4)").evaluate_all(
            "cells => cells.map((cell) => Number(cell.dataset.value))")
        assert times == sorted((step.seconds for step in profile.steps), reverse=True)
        link = tab.locator("table.steps tbody tr a").first
        source = tab.locator(f"{link.get_attribute('href')} pre")
        assert not source.is_visible()
        link.click()
        assert source.is_visible() and "def " in source.inner_text()


def test_no_column_of_the_steps_is_cut_off_on_a_desk(browser: Any, page: Path) -> None:
    with opened(browser, page) as tab:
        assert tab.evaluate("Array.from(document.querySelectorAll('.scroll:has(.steps)'))"
                            ".every((each) => each.scrollWidth <= each.clientWidth)")


def test_kernels_of_several_steps_have_a_table(profile: Profile) -> None:
    page = profile_page(profile).partition("in all of their steps")[2].partition("</section>")[0]
    kernels = profile.by_kernel()
    assert len(kernels) < len(profile.steps) and page.count("<tr>") == len(kernels) + 1
    for each in kernels:
        assert f">{each.kernel}</a></td><td>{len(each.steps)}</td>" in page
    alone = replace(profile, steps=profile.steps[:1])
    assert "in all of their steps" not in profile_page(alone)


def test_it_fits_a_phone(browser: Any, page: Path) -> None:
    with opened(browser, page, viewport=PHONE) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
