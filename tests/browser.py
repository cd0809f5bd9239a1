"""A headless Chromium for tests of pages, and pages in it that are to say nothing and to ask for nothing.

Needs playwright and a Chromium: playwright's own, or one on the path (chromium, google-chrome). Tests are skipped where
either is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PHONE, DESK = {"width": 380, "height": 800}, {"width": 1280, "height": 800}


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test that asks for it is skipped where none can be started."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, file: Path, fragment: str = "", *, viewport: dict[str, int] = DESK,
           colours: str = "light") -> Iterator[Any]:
    """The page in a tab of its own. At the end nothing was said on the console and nothing but the file asked for."""
    context = browser.new_context(viewport=viewport, color_scheme=colours)
    tab = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url.partition("#")[0]))
    tab.goto(file.as_uri() + fragment)
    yield tab
    context.close()
    assert said == [] and set(asked) == {file.as_uri()}
