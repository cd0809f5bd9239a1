"""What an install brings: `staticgraph` alone at top level, every module of the tree, and the type marker."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"staticgraph": "staticgraph", "compiler": "staticgraph/compiler", "runtime": "staticgraph/runtime"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in: setuptools leaves build/ and *.egg-info beside the sources."""
    tree = tmp_path_factory.mktemp("packaging") / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "tests").mkdir()
    (tree / "tests" / "__init__.py").touch()
    return tree


def build(kind: str, tree: Path, out: Path) -> Path:
    """Build with the setuptools of this environment, so that no network is needed."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return out / run.stdout.split()[-1]


def expected_modules() -> set[str]:
    found = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT / folder)
            if folder != "staticgraph" or inside.parts[0] not in FOLDERS:     # the links
                found.add(f"{package}/{inside.as_posix()}")
    return found


def check_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        information = {name.split("/")[0] for name in names if ".dist-info/" in name}
        entry_points = archive.read(f"{next(iter(information))}/entry_points.txt").decode()
    assert {name.split("/")[0] for name in names} - information == {"staticgraph"}
    assert {name for name in names if name.endswith(".py")} == expected_modules()
    assert "staticgraph/py.typed" in names
    data = {path.name for path in (ROOT / "staticgraph/viz/page").iterdir() if path.suffix in (".js", ".css", ".txt")}
    assert len(data) > 10 and {f"staticgraph/viz/page/{name}" for name in data} <= names
    assert "staticgraph = staticgraph.cli:main" in entry_points


def test_wheel_holds_one_top_level_package(tree: Path, tmp_path: Path) -> None:
    check_wheel(build("wheel", tree, tmp_path))


def test_sdist_builds_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tree, tmp_path)
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):     # not in the first releases of Python 3.11
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert not (unpacked / "staticgraph" / "compiler").exists()     # no links here: the list of packages must do
    check_wheel(build("wheel", unpacked, tmp_path))
