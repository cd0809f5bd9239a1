"""Contestants: one module for each library, found by being here, used when the library is installed.

A module defines `PEERS`. Importing it must not import the library: that waits until `connect`, so that listing is
quick, environment variables can be set first and the cost of imports can be told from the cost of compiling.

A peer states formulas (`cases.Case.formula`) as its users write them, and knows by itself what a gradient and a step of
training are made of; so a new formula is one function in each peer.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from ..cases import Array, Case, Setting

Arrays = Mapping[str, Array]
Forms = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Contestant:
    """A case made ready by a peer. `call` runs it once, from NumPy arrays to NumPy arrays, and moves the state on;
    `state` reads the state, in the order of the case (None: nobody can); `reset` puts the first state back. `memory` is
    the peak in bytes as it was planned and as it was allocated, after a call, where the peer knows them."""

    call: Callable[[], tuple[Array, ...]]
    state: Callable[[], tuple[Array, ...]] | None = lambda: ()
    reset: Callable[[], None] = lambda: None
    memory: Callable[[], tuple[int, int]] | None = None


NO_FORM = "has no form of this case"


class NoForm(Exception):
    """The peer has no idiom for this case; the text may say why."""

    def __init__(self, reason: str = NO_FORM) -> None:
        super().__init__(reason)


class Peer(Protocol):
    """A library that takes part. `order` is the place of its column; `counts` says that figures are set against it."""

    name: str
    package: str
    order: int
    counts: bool

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        """Variables to set before the library is imported: its caches below a folder, its threads."""

    def connect(self, threads: int) -> None:
        """Import the library and settle its threads."""

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        """Build and compile a case, as far as the library does so before the first call. Raises NoForm."""


def find_peers() -> list[Peer]:
    """All peers there are, installed or not, in the order of their columns."""
    found: list[Peer] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").PEERS
    return sorted(found, key=lambda peer: peer.order)


def missing_reason(peer: Peer) -> str | None:
    """Why a peer cannot take part, or None."""
    if importlib.util.find_spec(peer.package) is None:
        return f"{peer.package} is not installed"
    return None


def version_of(peer: Peer) -> str:
    """The version that is installed, or an empty text."""
    try:
        return metadata.version(peer.package)
    except metadata.PackageNotFoundError:
        return ""


def form_of(forms: Forms, case: Case) -> Callable[..., Any]:
    """The peer's form of a case."""
    try:
        return forms[case.formula]
    except KeyError:
        raise NoForm from None


def as_tuple(results: Any) -> tuple[Any, ...]:
    """Results of a formula that may be one or several."""
    return results if isinstance(results, tuple) else (results,)
