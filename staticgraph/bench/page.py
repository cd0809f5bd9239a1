"""A record as one page of HTML: plots, tables and the data itself, in one file that needs no network and no other file.

Everything of a record is text of somebody's (names of models, messages of errors) and is escaped; a policy in the page
forbids it to load anything at all. The page is read by phones, printers and screen readers too: bars carry their
numbers, verdicts their words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any

from ..runtime.figures import digits, seconds
from ..viz.page_style import THEME_BUTTON, data_element, document
from ..viz.plots import Point, ratio_bar, ratio_scale, roofline, time_bar
from .figures import OURS, Verdict, best_peer, judge, verdicts
from .report import RATES, machine_text, names_of, notes, rate, spread_of, texts_of

Record = dict[str, Any]

SUITE_COLOURS = 8
LEAST_BYTES = 1024
"""Of a case that has a place on the roofline."""


def page(record: Record) -> str:
    """The document."""
    judged = verdicts(record)
    body = "\n".join([
        *_head(record), *_controls(record), *_summary(record, judged),
        *(text for number, run in enumerate(record["runs"]) for text in _run(run, number)),
        *_compiles(record["compile"]), *_missed(judged), *_notes(record), data_element(record)])
    return document("staticgraph bench", body, SCRIPT)


def _head(record: Record) -> Iterator[str]:
    yield "<header><h1>staticgraph bench</h1>"
    if record["model"]:
        yield f"<p>Model <code>{escape(record['model'])}</code></p>"
    for run in record["runs"]:
        yield "".join(f'<p class="quiet">{escape(line)}</p>' for line in machine_text(run).splitlines())
    yield "</header>"


def _peers(record: Record) -> list[str]:
    return list(dict.fromkeys(name for run in record["runs"] for name in names_of(run) if name != OURS))


def _controls(record: Record) -> Iterator[str]:
    yield '<nav class="controls" aria-label="what is shown">'
    if len(record["runs"]) > 1:
        options = "".join(f'<option value="{number}">{_threads(run)}</option>'
                          for number, run in enumerate(record["runs"]))
        yield f'<label>run <select id="run">{options}</select></label>'
    yield '<label>find <input id="find" type="search" placeholder="softmax"></label>'
    yield from (f'<label><input type="checkbox" checked data-peer="{escape(name)}"> {escape(name)}</label>'
                for name in _peers(record))
    yield f"{THEME_BUTTON}</nav>"


def _threads(run: Record) -> str:
    return "one thread" if run["threads"] == 1 else f"{run['threads']} threads"


def _summary(record: Record, judged: Sequence[Verdict]) -> Iterator[str]:
    best = [found[1] for run in record["runs"] for case in run["cases"]
            if (found := best_peer(run, case)) is not None and ("least" in case["figures"] or not case["figures"])]
    tiles = []
    if judged:
        tiles.append((f"{sum(each.reached for each in judged)} of {len(judged)}", "figures reached"))
    if best:
        tiles.append((f"{sum(ratio >= 1 for ratio in best)} of {len(best)}", "cases no slower than the best peer"))
        tiles.append((f"{digits(sorted(best)[len(best) // 2])}×", "median time of the best peer, ours being 1"))
    for run in record["runs"]:
        peaks = run["peaks"]
        tiles.append((f"{peaks['copy_gb_s']:.0f} GB/s", f"copied by {_threads(run)}"))
        tiles.append((f"{peaks['float32_gflop_s']:.0f} GFlop/s", f"float32 multiply-adds by {_threads(run)}"))
    yield '<div class="tiles">'
    yield from (f'<div class="tile"><b>{escape(value)}</b>{escape(text)}</div>' for value, text in tiles)
    yield "</div>"


def _run(run: Record, number: int) -> Iterator[str]:
    """Everything of one number of threads."""
    if not run["cases"]:
        return
    yield f'<section data-run="{number}">'
    suites = [(suite, list(cases)) for suite, cases in groupby(run["cases"], lambda case: case["suite"])]
    for suite, cases in suites:
        yield (f"<div data-suite><h2>{escape(suite)}, {_threads(run)}</h2><p class=\"quiet\">How many times as long "
               "each peer takes; the dashed line is the figure to reach.</p>")
        yield f'<div class="row"><span></span>{ratio_scale()}</div>'
        yield from (text for case in cases for text in _case(run, case))
        yield f"<details><summary>Table of {escape(suite)}</summary>{_table(run, cases)}</details></div>"
    yield from _roofline(run, suites)
    yield "</section>"


def _case(run: Record, case: Record) -> Iterator[str]:
    ours, name = case["contestants"].get(OURS), f"{case['case']} {case['label']}"
    yield (f'<div class="case" data-case="{_words(case)}"><h3>{escape(name)}</h3> '
           f'<span class="facts">{escape(case["title"])}</span>')
    if ours is None:
        reason = case["wrong"].get(OURS) or case["absent"].get(OURS, "")
        yield f'<p class="verdict missed">staticgraph failed: {escape(reason)}</p></div>'
        return
    facts = [f"{seconds(ours['median_s'])} ± {100 * spread_of(ours) / 2:.0f}%", f"{digits(ours['gb_s'])} GB/s",
             f"{ours['percent_of_copy']:.0f}% of copying"]
    if case["flops"]:
        facts += [f"{digits(ours['gflop_s'])} GFlop/s", f"{ours['percent_of_fma']:.0f}% of multiply-adds"]
    judged = list(judge(run, case))
    yield f'<p class="facts">{" · ".join(facts)} {" ".join(map(_verdict, judged))}</p>'
    wanted = case["figures"].get("least", 0.0)
    for peer, timing in case["contestants"].items():
        if peer != OURS:
            title = f"{peer}: {seconds(timing['median_s'])}, {digits(timing['times_slower'])} times ours"
            counted = wanted if peer in run["counted"] else 0.0
            yield (f'<div class="row" data-of="{escape(peer)}"><span title="{escape(peer)}">{escape(peer)}</span>'
                   f"{ratio_bar(timing['times_slower'], counted, title)}</div>")
    for peer, reason in case["wrong"].items():
        yield (f'<div class="row" data-of="{escape(peer)}"><span>{escape(peer)}</span><span>wrong: {escape(reason)}'
               "</span></div>")
    yield "</div>"


def _words(case: Record) -> str:
    """What a search looks at."""
    return escape(" ".join(case[name] for name in ("suite", "case", "label", "title")).lower())


def _verdict(verdict: Verdict) -> str:
    found, wanted = texts_of(verdict)
    figure = wanted.removeprefix("wanted ")
    state = "reached" if verdict.reached else "missed"
    sign = f"✓ {figure} reached" if verdict.reached else (
        f"✗ {figure} missed by {max(1, round(100 * verdict.missing))}%")
    return f'<span class="verdict {state}" title="{escape(found)}">{escape(sign)}</span>'


def _duration(timing: Record, field: str) -> str:
    return seconds(timing[field])


COLUMNS = (("time", "median_s", _duration), *((title, field, rate) for title, field in RATES),
           ("first call", "first_call_s", _duration))


def _table(run: Record, cases: Sequence[Record]) -> str:
    peers = [name for name in names_of(run) if name != OURS and any(name in case["contestants"] for case in cases)]
    heads = "".join(f'<th scope="col" data-sort>{escape(title)}</th>'
                    for title in ("case", *(title for title, *_ in COLUMNS)))
    heads += "".join(f'<th scope="col" data-sort data-of="{escape(peer)}">{escape(peer)}</th>' for peer in peers)
    rows = "".join(_table_row(case, peers) for case in cases if OURS in case["contestants"])
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _table_row(case: Record, peers: Sequence[str]) -> str:
    ours, name = case["contestants"][OURS], f"{case['case']} {case['label']}"
    cells = "".join(f'<td data-value="{ours[field]}">{show(ours, field)}</td>' for _, field, show in COLUMNS)
    for peer in peers:
        timing = case["contestants"].get(peer)
        cells += (f'<td data-of="{escape(peer)}" data-value="{timing["times_slower"]}">'
                  f"{digits(timing['times_slower'])}×</td>" if timing else f'<td data-of="{escape(peer)}">–</td>')
    return f'<tr data-case="{_words(case)}"><td>{escape(name)}</td>{cells}</tr>'


def _roofline(run: Record, suites: Sequence[tuple[str, list[Record]]]) -> Iterator[str]:
    """Float32 cases below what the machine can do; those of calls on almost nothing have no place there."""
    points = [Point(f"{case['case']} {case['label']}", case["flops"] / case["bytes"],
                    case["contestants"][OURS]["gflop_s"], number % SUITE_COLOURS)
              for number, (_, cases) in enumerate(suites) for case in cases
              if case["dtype"] == "float32" and OURS in case["contestants"] and case["bytes"] >= LEAST_BYTES]
    plot = roofline(points, run["peaks"]["copy_gb_s"], run["peaks"]["float32_gflop_s"])
    if plot:
        legend = "".join(
            f'<span><svg aria-hidden="true"><circle class="suite{number % SUITE_COLOURS}" cx="6" cy="6" r="5"/></svg> '
            f"{escape(suite)}</span>" for number, (suite, _) in enumerate(suites))
        yield (f"<h2>Roofline, {_threads(run)}</h2><p class=\"quiet\">All float32 cases. The line is what copying can "
               "feed and multiply-adds can do; what fits into caches may lie above its left part.</p>"
               f'<div class="legend">{legend}</div><div class="scroll">{plot}</div>')


def _compiles(records: Sequence[Record]) -> Iterator[str]:
    done = [each for each in records if "failed" not in each]
    if not done:
        return
    yield ("<section data-suite><h2>compile</h2><p class=\"quiet\">From nothing to the first result in a new process, "
           "with an empty cache and with a filled one; imports apart.</p>")
    for case, group in groupby(done, lambda each: each["case"]):
        listed = list(group)
        most = max(each["cold_compile_s"] for each in listed)
        yield f'<div class="case" data-case="{escape(f"compile {case}".lower())}"><h3>{escape(case)}</h3>'
        for each in listed:
            attribute = "" if each["peer"] == OURS else f' data-of="{escape(each["peer"])}"'
            for kind in ("cold", "warm"):
                value = each[f"{kind}_compile_s"]
                bar = time_bar(value, most, kind, f"{each['peer']} {kind}: {seconds(value)}")
                label = escape(each["peer"]) if kind == "cold" else "  warm"
                yield f'<div class="row"{attribute}><span>{label}</span>{bar}</div>'
        yield "</div>"
    yield "</section>"


def _missed(judged: Sequence[Verdict]) -> Iterator[str]:
    missed = [verdict for verdict in judged if not verdict.reached]
    if not missed:
        return
    rows = "".join(f"<tr><td>{escape(each.where)}</td><td>{each.threads}</td><td>{escape(texts_of(each)[0])}</td>"
                   f"<td>{escape(texts_of(each)[1].removeprefix('wanted '))}</td><td data-value=\"{each.missing}\">"
                   f"{max(1, round(100 * each.missing))}%</td></tr>" for each in missed)
    heads = "".join(f'<th scope="col" data-sort>{text}</th>' for text in ("figure", "threads", "found", "wanted",
                                                                          "missed by"))
    yield (f'<section><h2>Figures that were missed</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
           f"<tbody>{rows}</tbody></table></div></section>")


def _notes(record: Record) -> Iterator[str]:
    lines = list(notes(record))
    if lines:
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        yield f"<section><h2>Notes</h2><ul>{items}</ul></section>"


SCRIPT = """
const find = document.getElementById("find"), run = document.getElementById("run");
function show() {
  const text = find.value.trim().toLowerCase();
  const off = new Set(all("input[data-peer]").filter((box) => !box.checked).map((box) => box.dataset.peer));
  all("section[data-run]").forEach((each) => { each.hidden = run !== null && each.dataset.run !== run.value; });
  all("[data-of]").forEach((each) => { each.hidden = off.has(each.dataset.of); });
  all("[data-case]").forEach((each) => { each.hidden = text !== "" && !each.dataset.case.includes(text); });
  all("[data-suite]").forEach((each) => { each.hidden = !each.querySelector("[data-case]:not([hidden])"); });
}
[find, run, ...all("input[data-peer]")].forEach((each) => { if (each) each.addEventListener("input", show); });
show();
"""
"""Which runs, peers and cases are shown."""
