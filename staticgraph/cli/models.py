"""A user's model file: loaded, and what it names made ready to be drawn, run, profiled or dumped.

A model is ``path/to/model.py:name``. The file is run as if imported; `name` is a tensor, a list, tuple or dict of
tensors, or an executable. Tensors beside `updates` in the same file are the training step. Or it is a graph in a file,
``path/to/graph.json``, as `sg.save_graph` writes them; nothing in that is run.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import StaticGraphError
from .exits import CommandError as CommandError
from .exits import meant
from .progress import working

if TYPE_CHECKING:
    from ..api import Executable
    from ..tensor import Tensor


@dataclass(frozen=True)
class Model:
    """What a name stands for. `outputs` keeps the user's structure; an executable that `sg.compile` did not make has
    none."""

    name: str
    module: ModuleType
    inputs: Sequence[Tensor]
    outputs: Any
    updates: Mapping[Tensor, Tensor]
    options: Mapping[str, Any]
    executable: Executable | None = None

    @property
    def is_known(self) -> bool:
        """Whether the graph is there, so that the interpreter can be asked."""
        return self.outputs is not None

    def compile(self) -> Executable:
        """The executable: the user's own, or the compiled graph."""
        from ..api import compile

        if self.executable is not None:
            return self.executable
        with working(f"compiling {self.name}"):
            return compile(self.inputs, self.outputs, updates=self.updates, options=self.options)

    def beside(self, suffix: str) -> Any:
        """What the file calls name_suffix, or None."""
        return getattr(self.module, f"{self.name}_{suffix}", None)


def split_model(text: str) -> tuple[Path, str]:
    """("path/to/model.py", "name") of ``path/to/model.py:name``."""
    path, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise CommandError(f"'{text}' does not name a model: needed path/to/model.py:name{_names_in(text)}")
    if path.lower().endswith(".json"):     # such a file is never run, whatever somebody wrote into it
        raise CommandError(f"'{text}': a saved graph has no names in it; it is named by its file alone: {path}")
    return _existing(path), name


def _existing(path: str) -> Path:
    found = Path(path)
    if not found.is_file():
        folder = found.parent
        beside = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        if found.is_dir():
            raise CommandError(f"'{path}' is a folder, needed a file: {path}/model.py:name")
        raise CommandError(f"there is no file '{path}'{meant(found.name, beside)}")
    return found


def _names_in(path: str) -> str:
    """What could stand behind the colon that somebody left out."""
    if not path.endswith(".py") or not Path(path).is_file():
        return ""
    found = _nameable(load_model(Path(path)))
    return f"; it has: {', '.join(f'{path}:{each}' for each in found)}" if found else "; it has nothing to be named"


def load_model(path: Path) -> ModuleType:
    """Run a user's file as a module of its own name, with its folder on the import path, as Python does for scripts.

    What it prints goes to standard error: the output belongs to the command, whose JSON may be read by a machine.
    """
    folder = str(path.absolute().parent)
    loader = SourceFileLoader(path.stem, str(path.absolute()))
    spec = spec_from_loader(path.stem, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.path.insert(0, folder)
    sys.modules.setdefault(path.stem, module)     # dataclasses look their module up; a taken name stays taken
    try:
        with redirect_stdout(sys.stderr), telling_failures(f"'{path}'"):
            loader.exec_module(module)
    finally:
        if sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]
        sys.path.remove(folder)
    return module


@contextmanager
def telling_failures(what: str) -> Iterator[None]:
    """Run code of the user's; what it raises becomes a message, unless it is one already."""
    try:
        yield
    except (StaticGraphError, CommandError):
        raise
    except (Exception, SystemExit) as error:
        raise CommandError(f"{what} failed: {_short(error)}") from error


def _short(error: BaseException) -> str:
    """The error, and the last line of the user's own that led to it."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SyntaxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    return f"{text} ({os.path.basename(own[-1].filename)}:{own[-1].lineno})" if own else text


def find_model(text: str) -> Model:
    """The model that ``path/to/model.py:name``, or ``path/to/graph.json``, names."""
    if text.lower().endswith(".json"):
        return _of_file(_existing(text))
    path, name = split_model(text)
    with working(f"running {path}"):
        module = load_model(path)
    subject = _subject(module, name)
    make = _of_executable if _is_executable(subject) else _of_graph
    return make(module, name, subject)


def _of_file(path: Path) -> Model:
    from ..graph_file import load_graph

    graph = load_graph(path)
    name = re.sub(r"\W", "_", path.stem) or "graph"
    return Model(name, ModuleType(name), graph.inputs, graph.outputs, graph.updates, graph.options)


def _of_executable(module: ModuleType, name: str, executable: Any) -> Model:
    given = executable.definition
    if given is None:
        return Model(name, module, (), None, {}, {}, executable)
    return Model(name, module, given.inputs, given.outputs, given.updates, given.options, executable)


def _of_graph(module: ModuleType, name: str, subject: Any) -> Model:
    from ..api import check_updates, flatten_outputs
    from ..tensor import toposort

    updates = check_updates(getattr(module, "updates", None))
    outputs: Any = [] if name == "updates" else subject
    nodes = toposort([*flatten_outputs(outputs)[0], *updates.values()])
    return Model(name, module, [node for node in nodes if node.op.name == "placeholder"], outputs, updates, {})


def _subject(module: ModuleType, name: str) -> Any:
    """What the file calls `name`."""
    subject: Any = getattr(module, name, None)
    if _is_executable(subject) or _is_graph(subject):
        return subject
    found = _nameable(module)
    problem = f"has no '{name}'{meant(name, found)}" if not hasattr(module, name) else (
        f"has a '{name}', but it is neither tensors nor an executable: {type(subject).__name__}")
    joint = "" if problem.endswith("?") else ";"
    raise CommandError(f"{module.__name__} {problem}{joint} what can be named: {', '.join(found) or 'nothing'}")


def _nameable(module: ModuleType) -> list[str]:
    return sorted(key for key, value in vars(module).items()
                  if not key.startswith("_") and (_is_executable(value) or _is_graph(value)))


def _is_executable(value: Any) -> bool:
    from ..runtime.executable import Executable

    return isinstance(value, Executable)


def _is_graph(value: Any) -> bool:
    from ..tensor import Tensor

    if isinstance(value, list | tuple | dict):
        members = list(value.values()) if isinstance(value, dict) else list(value)
        return bool(members) and all(isinstance(each, Tensor) for each in members)
    return isinstance(value, Tensor)
