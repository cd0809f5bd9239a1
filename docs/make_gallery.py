"""Make the pictures of docs/gallery.md again.

    python docs/make_gallery.py                        # everything about the examples
    python docs/make_gallery.py graphs memory          # some of it
    python docs/make_gallery.py roofline               # what is measured, on a machine that has nothing else to do
    python docs/make_gallery.py --record record.json   # and the picture of a run: staticgraph bench --json record.json

Everything is written into docs/gallery/, and the flowcharts into the page itself. Graphs are the same bytes on every
machine, as long as examples and compiler are. A new kind of picture is a function and a row of `WORKS`.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import staticgraph as sg  # noqa: E402
from staticgraph.bench.figures import best_peer, judge  # noqa: E402
from staticgraph.cli import main as staticgraph  # noqa: E402
from staticgraph.cli.models import find_model  # noqa: E402
from staticgraph.viz.plots import overview  # noqa: E402

PAGE = ROOT / "docs" / "gallery.md"
GALLERY = ROOT / "docs" / "gallery"
GRAPHS = (
    ("logreg_built.svg", "logreg.py:loss", "tensor"),
    ("logreg.svg", "logreg.py:loss", "fused"),
    ("logreg_program.svg", "logreg.py:loss", "program"),
    ("curve_fit.svg", "curve_fit.py:loss", "fused"),
    ("digits_mlp.svg", "digits_mlp.py:loss", "fused"),
    ("digits_mlp_program.svg", "digits_mlp.py:loss", "program"),
    ("digits_cnn_built.svg", "digits_cnn.py:loss", "tensor"),
    ("digits_cnn.svg", "digits_cnn.py:loss", "fused"),
    ("digits_mlp.html", "digits_mlp.py:loss", "fused"),
)
"""(file, model of an example, stage)."""

MEMORY = (("digits_cnn_memory.svg", "digits_cnn.py:loss"),)
"""(file, model of an example)."""

ROOFLINES = (("digits_cnn_roofline.svg", "digits_cnn.py:loss", ("--size", "batch=64", "--below", "labels=10")),)
"""(file, model of an example, options of its inputs)."""

FLOWCHARTS = (("logreg", "logreg.py:loss", "program"),)
"""(name between the markers in the page, model of an example, stage)."""


def draw_graphs():
    for name, model, stage in GRAPHS:
        status = staticgraph(["graph", example(model), "-o", str(GALLERY / name), "--stage", stage])
        if status:
            raise SystemExit(status)
        told(GALLERY / name)


def draw_memory():
    for name, model in MEMORY:
        sg.viz.export_memory(find_model(example(model)).compile(), GALLERY / name, theme="light")
        told(GALLERY / name)


def draw_flowcharts():
    """Mermaid stands in the page, whose reader draws it."""
    text = PAGE.read_text(encoding="utf-8")
    for name, model, stage in FLOWCHARTS:
        chart = sg.viz.to_mermaid(find_model(example(model)).compile(), stage)
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, after = text.partition(start)
        assert end in after, f"{PAGE} has no place for {name}"
        text = f"{before}{start}\n\n```mermaid\n{chart}```\n\n{end}{after.partition(end)[2]}"
    PAGE.write_text(text, encoding="utf-8")
    told(PAGE)


def draw_roofline():
    """Timings: made only when it is asked for."""
    for name, model, sizes in ROOFLINES:
        status = staticgraph(["profile", example(model), *sizes, "--roofline", str(GALLERY / name)])
        if status:
            raise SystemExit(status)
        told(GALLERY / name)


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


def example(model):
    return str(ROOT / "examples" / model)


def told(file):
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")


WORKS = {"graphs": draw_graphs, "memory": draw_memory, "flowcharts": draw_flowcharts, "roofline": draw_roofline}
"""What is made, in order."""
MEASURED = {"roofline"}
"""What is made only when it is asked for."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", metavar="WORK",
                        help=f"what to make: {', '.join(WORKS)} (default: all but what is measured)")
    parser.add_argument("--record", help="a record of staticgraph bench --json")
    options = parser.parse_args()
    if not set(options.works) <= set(WORKS):
        parser.error(f"what can be made is {', '.join(WORKS)}")
    GALLERY.mkdir(exist_ok=True)
    if options.record:
        draw_record(options.record)
    for name, work in WORKS.items():
        if name in options.works or not (options.works or name in MEASURED):
            work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
