"""A cache of its own for this package's tests, shared by them so that each kernel is compiled once."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels") / "cache"


@pytest.fixture(autouse=True)
def own_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(session_cache))
    monkeypatch.delenv("STATICGRAPH_CACHE", raising=False)
    yield
