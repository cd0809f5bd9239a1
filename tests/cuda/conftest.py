"""A GPU that is not there: the fake driver, with programs whose kernels are NumPy functions."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from . import fake_driver, programs


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, quick_collections: None) -> Iterator[fake_driver.FakeDriver]:
    """A driver with one GPU. Whatever the test made and dropped must have been given back at its end."""
    with programs.using(fake_driver.FakeDriver(), monkeypatch) as fake:
        yield fake
        gc.collect()
        fake.free_foreign()
        assert programs.leaks(fake) == {}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, quick_collections: None) -> Iterator[fake_driver.FakeDriver]:
    """The same with two GPUs."""
    with programs.using(fake_driver.FakeDriver(gpus=2), monkeypatch) as fake:
        yield fake
        gc.collect()
        fake.free_foreign()
        assert programs.leaks(fake) == {}
