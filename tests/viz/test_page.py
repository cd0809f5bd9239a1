"""The explorer as a file: whole, well-formed, small, and safe whatever things are called. That it is the same in every
process stands with the other formats (test_export)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import staticgraph as sg
from staticgraph.viz.page.document import SCRIPTS, asset
from tests.viz.graphs import HOSTILE, compiled, residual, training

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "br", "img", "input", "link"}


class Reader(HTMLParser):
    """What a page consists of; unbalanced elements are errors."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.policy = ""
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        assert not any(name.startswith("on") for name in given)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag in ("script", "style"):
            self.scripts.append((given, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            given, text = self.scripts[-1]
            self.scripts[-1] = given, text + data


def read(page: str) -> tuple[Reader, Any]:
    """The page, checked; and its data."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [] and page.startswith("<!doctype html>") and page.endswith("\n")
    (data,) = [text for given, text in reader.scripts if given.get("type") == "application/json"]
    return reader, json.loads(data)


@cache
def page_of_training() -> str:
    return sg.viz.to_html(compiled())


def test_every_script_is_allowed_by_its_hash_and_nothing_else_is() -> None:
    page = page_of_training()
    reader, _ = read(page)
    texts = [text for given, text in reader.scripts if given.get("type") != "application/json"]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}
    assert len(texts) >= len(SCRIPTS) + 1 and hashes == set(re.findall(r"'sha256-([^']+)'", reader.policy))
    assert reader.policy.startswith("default-src 'none';") and "unsafe" not in reader.policy
    assert reader.addresses == []
    assert asset("dagre.LICENSE.txt").strip() in page


def test_scripts_stay_scripts() -> None:
    for name in SCRIPTS:
        text = asset(name)
        assert "use strict" in text[:200], name
        assert "</script" not in text.lower() and "<!--" not in text, name
        for banned in ("eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
                       "fetch(", "XMLHttpRequest", "import("):
            assert banned not in text, (name, banned)


def test_data_hold_all_stages_and_the_history() -> None:
    compilation = compiled()
    _, data = read(page_of_training())
    program = compilation.program
    assert program is not None
    stages = {stage["name"]: stage for stage in data["stages"]}
    assert list(stages) == ["tensor", "primitive", "fused", "program"] and data["start"] == "fused"
    for stage, record in zip(("tensor", "primitive"), program.graphs, strict=True):
        assert len(stages[stage]["nodes"]) == len(record.nodes)
    assert [kernel["text"] for kernel in data["program"]["kernels"]] == [each.text.strip() for each in program.kernels]
    assert len(data["program"]["steps"]) == len(program.steps)
    history = sg.viz.history(compilation)
    assert [(stage["name"], len(stage["firings"])) for stage in data["past"]["stages"]] == [
        (stage.name, len(stage.firings)) for stage in history.stages]
    columns = data["columns"]["node"]
    past = columns.index("past")
    for stage in ("tensor", "primitive", "fused"):     # each node is found again in the history, as what it is
        for row in stages[stage]["nodes"]:
            node = history.nodes[row[past]]
            named = {key: data["texts"][row[columns.index(key)]] for key in ("op", "type", "name")}
            assert row[past] >= 0 and named == {"op": node.op, "type": node.type, "name": node.name}


def test_lines_of_the_user_have_their_text() -> None:
    _, data = read(page_of_training())
    found = {line: text for line, text in data["sources"].items() if "sg.nn.cross_entropy(hidden @ w2" in text}
    assert len(found) == 1 and next(iter(found)).startswith("graphs.py:")
    assert str(ROOT) not in page_of_training()


def test_a_program_without_its_graph_says_so() -> None:
    program = compiled().program
    _, data = read(sg.viz.to_html(program))
    assert data["past"] is None and "no history" in data["remarks"][0] and len(data["stages"]) == 4


def test_a_graph_that_cannot_be_compiled_is_shown_as_it_was_built() -> None:
    other = sg.placeholder("y", shape=("length",))
    loss = sg.sum(sg.placeholder("x", shape=("batch", 2))) * sg.sum(other) / sg.Dim("nobody")
    _, data = read(sg.viz.to_html(loss))
    assert [stage["name"] for stage in data["stages"]] == ["tensor"] and data["program"] is None
    assert "cannot be compiled" in data["remarks"][0] and "nobody" in data["remarks"][0]


def test_names_of_all_kinds_go_through_and_end_nothing() -> None:
    inputs, loss, updates = training((HOSTILE, HOSTILE + "2"))
    with sg.name_scope(HOSTILE):
        shown = {HOSTILE: loss + 1.0}
    page = sg.viz.to_html(sg.compile(inputs, shown, updates=updates))
    _, data = read(page.encode("utf-8", "replace").decode())
    assert "alert('x')</script>" not in page and {HOSTILE, HOSTILE + "2"} <= set(data["texts"])
    assert HOSTILE in {name for name, _ in data["stages"][0]["outputs"]}


@pytest.mark.parametrize("stage", ["tensor", "program"])
def test_stage_and_theme_are_what_it_opens_with(stage: str) -> None:
    _, data = read(sg.viz.to_html(sg.placeholder("x", shape=(2,)) + 1, stage, theme="dark"))
    assert data["start"] == stage and data["theme"] == "dark"


def test_a_thousand_nodes_are_below_two_megabytes() -> None:
    page = sg.viz.to_html(residual(170))
    _, data = read(page)
    assert len(data["stages"][0]["nodes"]) > 1000 and len(page.encode()) < 2_000_000
