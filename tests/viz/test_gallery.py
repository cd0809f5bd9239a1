"""The gallery's page and its script name the same pictures, all of which are there and well-formed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gallery", DOCS / "make_gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_has_its_place_and_is_there(script: ModuleType) -> None:
    linked = set(re.findall(r"\]\(gallery/([^)]+)\)", PAGE))
    made = {row[0] for row in (*script.GRAPHS, *script.MEMORY, *script.ROOFLINES)}
    assert made <= linked and linked == {path.name for path in (DOCS / "gallery").iterdir()}
    for name in linked:
        if name.endswith(".svg"):
            assert ElementTree.parse(DOCS / "gallery" / name).getroot().tag.endswith("svg")


def test_flowcharts_stand_between_their_markers(script: ModuleType) -> None:
    for name, _, _ in script.FLOWCHARTS:
        found = re.search(rf"<!-- {name} -->(.*?)<!-- end of {name} -->", PAGE, re.DOTALL)
        assert found is not None and found[1].strip().startswith("```mermaid\n---\ntitle:")


def test_models_of_the_gallery_are_examples(script: ModuleType) -> None:
    for row in (*script.GRAPHS, *script.MEMORY, *script.ROOFLINES, *script.FLOWCHARTS):
        assert (DOCS.parent / "examples" / row[1].partition(":")[0]).is_file()
