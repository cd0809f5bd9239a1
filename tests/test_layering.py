"""Who may import whom, read from the source of every module.

Comes in: the text of staticgraph/, compiler/ and runtime/. Imports inside functions, under TYPE_CHECKING and through
import_module("...") count like any other. The rules:

  language (staticgraph/)   neither staticgraph.compiler nor staticgraph.runtime
  compiler                  the language and itself
  runtime                   compiler.program, compiler.target, types (has sizes), errors, locks, printing and itself
  api                       the three above; only the facade (staticgraph/__init__.py) and the roof import it
  roof                      (viz, bench, doctor, cli, __main__) anything; only the roof imports it; the facade hands out
                            viz to who asks for it

numba and llvmlite belong to the runtime and the roof. `import staticgraph` inside the library counts as importing the
facade, which leads everywhere: modules name the module that they need.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FACADE, API, COMPILER, RUNTIME = "staticgraph", "staticgraph.api", "staticgraph.compiler", "staticgraph.runtime"
ROOF = ("staticgraph.viz", "staticgraph.bench", "staticgraph.doctor", "staticgraph.cli", "staticgraph.__main__")
RUNTIME_MAY_SEE = tuple(f"staticgraph.{name}" for name in ("compiler.program", "compiler.target", "types", "errors",
                                                           "locks", "printing"))
CODE_GENERATORS = ("numba", "numba_cuda", "llvmlite")


def modules_under(folder: Path, package: str) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module below the folder; links are not followed."""
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if any((folder / parent).is_symlink() for parent in relative.parents):
            continue
        parts = relative.with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        yield ".".join((package, *parts)), path


MODULES = {
    **dict(modules_under(ROOT / "staticgraph", FACADE)),
    **dict(modules_under(ROOT / "compiler", COMPILER)),
    **dict(modules_under(ROOT / "runtime", RUNTIME)),
}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def layer(name: str) -> str:
    if name in (FACADE, API):
        return "facade" if name == FACADE else "api"
    for title, packages in (("compiler", (COMPILER,)), ("runtime", (RUNTIME,)), ("roof", ROOF)):
        if within(name, *packages):
            return title
    return "language" if within(name, FACADE) else "outside"


def imported_names(tree: ast.AST, module: str, is_package: bool, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import. `from a import b` is a.b where that is a module, else a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, module, is_package)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield node.lineno, inner if inner in known or inner in (COMPILER, RUNTIME, *ROOF) else source
        elif isinstance(node, ast.Call) and called_name(node.func) in ("import_module", "__import__"):
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join(base + (node.module.split(".") if node.module else []))


def called_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def complaint(module: str, target: str) -> str | None:
    """Why the module may not import the target, or None."""
    here, there = layer(module), layer(target)
    if within(target, "compiler", "runtime", "tests"):
        return "is called staticgraph.compiler or staticgraph.runtime once installed; tests are not installed"
    if here == "roof":
        return None
    if there == "roof":
        return None if here == "facade" and target == "staticgraph.viz" else "nothing below the roof imports the roof"
    if within(target, *CODE_GENERATORS):
        return None if here == "runtime" else "only the runtime generates machine code"
    if there == "outside" or here == "api":
        return None
    if here == "facade":
        return "the facade reaches them through api" if there in ("compiler", "runtime") else None
    if here == "runtime":
        return None if there == "runtime" or target in RUNTIME_MAY_SEE else "the runtime sees Programs and Targets only"
    if there in ("api", "facade"):
        return "leads to all layers: import the module that is meant"
    if there == "runtime":
        return "only api reaches the runtime"
    if there == "compiler" and here == "language":
        return "only api reaches the compiler"
    return None


def violations(source: str, module: str, is_package: bool = False, known: set[str] | None = None) -> list[str]:
    names = imported_names(ast.parse(source), module, is_package, set(MODULES) if known is None else known)
    found = ((line, target, complaint(module, target)) for line, target in names)
    return [f"{module}:{line} imports {target}: {why}" for line, target, why in found if why]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_its_layer_may(module: str) -> None:
    path = MODULES[module]
    assert violations(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


def test_links_lead_to_the_two_packages() -> None:
    for name in ("compiler", "runtime"):
        assert (ROOT / "staticgraph" / name).resolve() == (ROOT / name).resolve()


KNOWN = {
    FACADE, API, COMPILER, RUNTIME, *ROOF, *RUNTIME_MAY_SEE,
    "staticgraph.tensor", "staticgraph.ops", "staticgraph.ops.reduction",
    "staticgraph.compiler.fusion", "staticgraph.runtime.cpu",
}

ALLOWED = [
    ("staticgraph.tensor", "import numpy as np, math\nfrom . import types\nfrom staticgraph.errors import ShapeError"),
    ("staticgraph.ops.reduction", "from ..types import Dim\nfrom staticgraph.ops import reduction"),
    ("staticgraph.compiler.fusion", "import networkx\nfrom ..tensor import Tensor\nfrom .program import Program"),
    ("staticgraph.runtime.cpu", "import numba, llvmlite.binding\nfrom staticgraph.types import Dim\nfrom . import cpu"),
    ("staticgraph.runtime.cpu", "from staticgraph.compiler import program, target\nfrom staticgraph import errors"),
    ("staticgraph.api", "def f():\n    from staticgraph.compiler import fusion\n    import staticgraph.runtime.cpu"),
    ("staticgraph", "def __getattr__(name):\n    return import_module('staticgraph.viz')"),
    ("staticgraph.cli", "import staticgraph as sg, numba\nfrom .viz import html\nfrom staticgraph import compiler"),
]

FORBIDDEN = [
    ("staticgraph.tensor", "import staticgraph.compiler.fusion"),
    ("staticgraph.tensor", "from . import runtime"),
    ("staticgraph.tensor", "from .compiler.program import Program"),
    ("staticgraph.tensor", "def f():\n    from .runtime import cpu"),
    ("staticgraph.tensor", "from staticgraph import compile"),
    ("staticgraph.tensor", "from importlib import import_module\nimport_module('staticgraph.runtime')"),
    ("staticgraph.tensor", "import numba"),
    ("staticgraph.tensor", "import compiler.fusion"),
    ("staticgraph.ops.reduction", "from ..api import compile"),
    ("staticgraph.ops.reduction", "from .. import viz"),
    ("staticgraph.compiler.fusion", "from numba import njit"),
    ("staticgraph.compiler.fusion", "import llvmlite.ir"),
    ("staticgraph.compiler.fusion", "from ..runtime import cpu"),
    ("staticgraph.compiler.fusion", "import staticgraph as sg"),
    ("staticgraph.compiler.fusion", "from staticgraph.api import compile"),
    ("staticgraph.runtime.cpu", "from staticgraph.compiler import fusion"),
    ("staticgraph.runtime.cpu", "from staticgraph.tensor import Tensor"),
    ("staticgraph.runtime.cpu", "from staticgraph.compiler import Anything"),
    ("staticgraph.runtime.cpu", "import staticgraph"),
    ("staticgraph.runtime.cpu", "import staticgraph.bench"),
    ("staticgraph.api", "from staticgraph.viz import html"),
    ("staticgraph", "from . import cli"),
    ("staticgraph", "from .compiler.program import Program"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_reader_accepts(module: str, source: str) -> None:
    assert violations(source, module, module == FACADE, KNOWN) == []


@pytest.mark.parametrize(("module", "source"), FORBIDDEN)
def test_reader_refuses(module: str, source: str) -> None:
    assert len(violations(source, module, module == FACADE, KNOWN)) == 1


def test_import_is_light() -> None:
    heavy = ("numba", "llvmlite", "matplotlib", "networkx", "sklearn", "tqdm")
    code = f"import sys, staticgraph; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
