"""Running examples as their users do."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """For a process of its own: the package of this checkout, and no display."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def loaded(script: Path) -> ModuleType:
    """The script as a module, freshly made."""
    spec = spec_from_file_location(f"{script.stem}_under_test", script)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_builds_a_loss_and_nothing_else(script: Path, folder: Path) -> None:
    """Running the file as an import does, in a process of its own, is quick and writes nothing."""
    code = ("import runpy, sys\n"
            f"names = runpy.run_path({str(script)!r})\n"
            "assert names['loss'].shape == (), names['loss']\n"
            "heavy = [name for name in ('numba', 'sklearn', 'tqdm', 'matplotlib') if name in sys.modules]\n"
            "assert not heavy, heavy\n")
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True,
                         check=False)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert list(folder.iterdir()) == []
