"""What all tests share: a kernel cache of their own, and golden texts.

`golden(name, text)` holds a text to the file tests/golden/<name>; ``pytest --update-golden`` writes the files instead.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the texts in tests/golden instead of "
                     "comparing with them")


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this run, one for all of its processes, so that each kernel is compiled once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "kernel_cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATICGRAPH_CACHE_DIR", str(folder))
        patch.delenv("STATICGRAPH_CACHE", raising=False)
        patch.setenv("STATICGRAPH_VERIFY", "1")     # every pass is held to its rules, in all tests
        patch.delenv("STATICGRAPH_DEBUG", raising=False)
        patch.delenv("STATICGRAPH_DUMP", raising=False)
        yield folder


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """For modules that collect garbage often: what was there before them is left alone meanwhile. Late in a run that is
    millions of objects, and a collection of all of them takes a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with its golden file; see the module docstring."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}: run pytest --update-golden and look at the difference"
        assert text == path.read_text(encoding="utf-8"), f"{name} has changed: if that is meant, --update-golden"

    return compare
