"""Make the pictures of docs/gallery.md again.

    python docs/make_gallery.py                        # the graphs of the examples
    python docs/make_gallery.py --record record.json   # and the picture of a run: staticgraph bench --json record.json

Everything is written into docs/gallery/. The graphs are the same bytes on every machine, as long as examples and
compiler are.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from staticgraph.bench.figures import best_peer, judge  # noqa: E402
from staticgraph.cli import main as staticgraph  # noqa: E402
from staticgraph.viz.plots import overview  # noqa: E402

GALLERY = ROOT / "docs" / "gallery"
PICTURES = (
    ("logreg_built", "logreg.py:loss", "tensor"),
    ("logreg", "logreg.py:loss", "fused"),
    ("curve_fit", "curve_fit.py:loss", "fused"),
    ("digits_mlp", "digits_mlp.py:loss", "fused"),
)
"""(name, model of an example, stage)."""


def draw_graphs():
    for name, model, stage in PICTURES:
        file = GALLERY / f"{name}.svg"
        status = staticgraph(["graph", str(ROOT / "examples" / model), "-o", str(file), "--stage", stage])
        if status:
            return status
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")
    return 0


def draw_record(place):
    """The best peer of each case of the first run, whose number of threads is in the title."""
    run = json.loads(Path(place).read_text(encoding="utf-8"))["runs"][0]
    rows = []
    for case in run["cases"]:
        best, verdicts = best_peer(run, case), list(judge(run, case))
        if best is not None and "least" in case["figures"]:
            reached = all(verdict.reached for verdict in verdicts)
            rows.append((case["suite"], f"{case['case']} {case['label']}", best[1], best[0], reached))
    threads = "one thread" if run["threads"] == 1 else f"{run['threads']} threads"
    title = f"How many times as long the best peer takes ({threads}; {run['machine']['processor']})"
    (GALLERY / "bench.svg").write_text(overview(rows, title), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", help="a record of staticgraph bench --json")
    options = parser.parse_args()
    GALLERY.mkdir(exist_ok=True)
    if options.record:
        draw_record(options.record)
    return draw_graphs()


if __name__ == "__main__":
    sys.exit(main())
