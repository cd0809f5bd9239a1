"""A profile as one page of HTML, and its files: `sg.viz.export_profile(step.profile(x, t), "profile.html")`.

Comes in: a `Profile`. Goes out: one self-contained page with the parts of a call, the steps, the roofline, the plan of
memory, the compile and the kernels' sources, in light and dark; or text, JSON, or a trace for ui.perfetto.dev.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path

from ..errors import ArgumentError
from ..runtime.figures import digits, seconds
from ..runtime.profile import Profile, StepProfile
from ..runtime.profile_text import brief_lines, is_noticed, profile_text
from .export import write_whole
from .memory import memory_plan, render_memory_svg
from .page_style import STYLE, THEME_BUTTON, data_element, document
from .plots import HEIGHT, LEFT, WIDTH, Point, roofline, time_bar
from .text import clip, xml_safe

TRACE = ".trace.json"
SUFFIXES = (".html", ".svg", ".txt", ".json", TRACE)

COLOURS = 8
HEADROOM, NAME_WIDTH = 28, 26
"""Of the roofline as a file of its own: the height of its title, and how much of a kernel's name stands below it."""

PICTURE_STYLE = ("@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e8ecf0; --quiet: #a3aebb; "
                 "--line: #38424d; --s0: #5aa2e6; --s1: #ef8354; --s2: #63c987; --s3: #bb8ee0; --s4: #ee7fb0; "
                 "--s5: #d6b855; --s6: #5cc3d4; --s7: #a3aebb; } }"
                 "svg svg.roofline { min-width: 0; max-width: none; } svg text { font-size: 11px; }")

LABELLED = 6
"""Steps whose names stand in the roofline, the longest first."""

PART_COLOURS = {"kernels": 0, "waiting": 1, "driver": 5, "arguments": 2, "binding": 3, "results": 6,
                "interpreter": 7, "device": 1, "copies in": 2}


OPENING = """
all('a[href^="#kernel"]').forEach((each) => each.addEventListener("click", () => {
  document.getElementById(each.hash.slice(1)).open = true;
}));
"""
"""Whoever goes to a kernel sees its source."""


def export_profile(profile: Profile, path: str | os.PathLike[str], title: str = "") -> None:
    """Write a profile to `path`; the suffix says how: .html is the page, .svg the roofline, .txt the table, .json
    everything as data, .trace.json one call and the compile for ui.perfetto.dev. `title` heads the page.

    >>> sg.viz.export_profile(step.profile(x, t), "profile.html")
    """
    target = Path(path)
    write_whole(target, render_profile(profile, target.name, title))


def render_profile(profile: Profile, name: str, title: str = "") -> str:
    """The content of a file of this name."""
    if name.lower().endswith(TRACE):
        return json.dumps(profile.trace()) + "\n"
    suffix = Path(name).suffix.lower()
    if suffix == ".html":
        return profile_page(profile, title)
    if suffix == ".svg":
        return roofline_picture(profile)
    if suffix == ".json":
        return json.dumps(profile.to_json(), indent=1) + "\n"
    if suffix == ".txt":
        return profile_text(profile, verbose=True) + "\n"
    raise ArgumentError(f"cannot export a profile to '{name}': its suffix is not one of {', '.join(SUFFIXES)}")


def profile_page(profile: Profile, title: str = "") -> str:
    """The document."""
    body = "\n".join([*_head(profile, title), *_tiles(profile), *_parts(profile), *_kernels(profile),
                      *_steps(profile), *_roofline(profile), *_memory(profile), *_compiling(profile),
                      *_sources(profile), data_element(profile.to_json())])
    return document("staticgraph profile", xml_safe(body), OPENING)


def _head(profile: Profile, title: str) -> Iterator[str]:
    yield "<header><h1>staticgraph profile</h1>"
    if title:
        yield f"<p>Model <code>{escape(title)}</code></p>"
    sizes = "".join(f", {name} = {size}" for name, size in profile.sizes.items())
    yield f'<p class="quiet">{escape(_machine(profile) + sizes)}</p>'
    yield f"<p>{THEME_BUTTON}</p></header>"


def _machine(profile: Profile) -> str:
    if profile.device != "cpu":
        return profile.device
    return "one thread" if profile.threads == 1 else f"{profile.threads} threads"


def _tiles(profile: Profile) -> Iterator[str]:
    tiles = [(seconds(profile.seconds), f"a call, the fastest quarter of {profile.rounds}"),
             (seconds(profile.plain_seconds), f"without looking at it ({profile.overhead:+.1%})"),
             (f"{profile.accounted:.1%}", "of it accounted for"), (str(len(profile.steps)), "steps")]
    if profile.peaks is not None:
        tiles.append((f"{profile.peaks.copy_gb_s:.0f} GB/s", "copied by this machine"))
        tiles.append((f"{profile.peaks.float32_gflop_s:.0f} GFlop/s", "float32 multiply-adds by this machine"))
    yield '<div class="tiles">'
    yield from (f'<div class="tile"><b>{escape(value)}</b>{escape(text)}</div>' for value, text in tiles)
    yield "</div>"
    if is_noticed(profile):
        yield ('<p class="quiet">A call this short takes noticeably longer while it is looked at, for the clock is '
               "read some times in it.</p>")


def _parts(profile: Profile) -> Iterator[str]:
    if not profile.seconds:
        return
    yield "<section><h2>Where the time of a call goes</h2>"
    x, bars = 0.0, []
    for part in profile.parts:
        width = 100 * part.seconds / profile.seconds
        kind = f"suite{PART_COLOURS[part.name]}" if part.name in PART_COLOURS else "none"
        bars.append(f'<rect class="{kind}" x="{x:.2f}%" width="{max(width, 0.0):.2f}%" y="0" height="22">'
                    f"<title>{escape(part.name)}: {seconds(part.seconds)}</title></rect>")
        x += width
    yield f'<svg class="bar parts" role="img" aria-label="parts of a call" height="22">{"".join(bars)}</svg>'
    rows = "".join(
        f'<tr><td><svg class="key" aria-hidden="true" width="12" height="12"><rect width="12" height="12" rx="2" '
        f'class="{f"suite{PART_COLOURS[part.name]}" if part.name in PART_COLOURS else "none"}"/></svg> '
        f'{escape(part.name)}</td><td data-value="{part.seconds}">{seconds(part.seconds)}</td>'
        f'<td>{100 * part.seconds / profile.seconds:.1f}%</td><td class="prose">{escape(part.what)}</td></tr>'
        for part in profile.parts)
    yield f'<div class="scroll"><table><tbody>{rows}</tbody></table></div></section>'


KERNEL_HEADS = ("kernel", "steps", "time", "%", "GB/s", "GFlop/s")


def _kernels(profile: Profile) -> Iterator[str]:
    """Each kernel with all of its steps, the longest first, where some serve several."""
    kernels = profile.by_kernel()
    if len(kernels) == len(profile.steps):
        return
    heads = "".join(f'<th scope="col" data-sort{" class=words" * (head in WORDS)}>{head}</th>' for head in KERNEL_HEADS)
    rows = []
    for each in kernels:
        share = 100 * each.seconds / profile.seconds if profile.seconds else 0.0
        rows.append(f'<tr><td class="words">{_link(profile, each.steps[0], each.kernel)}</td><td>{len(each.steps)}</td>'
                    f'<td data-value="{each.seconds}">{seconds(each.seconds)}</td>{_share(share)}{_number(each.gb_s)}'
                    f"{_number(each.gflop_s)}</tr>")
    yield (f'<section><h2>Kernels, in all of their steps</h2><div class="scroll"><table class="kernels"><thead><tr>'
           f'{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>')


HEADS = ("step", "kernel", "lines", "time", "%", "calls", "GB/s", "GFlop/s", "% peak", "by", "fits", "bytes", "flops")
WORDS = ("kernel", "lines")


def _steps(profile: Profile) -> Iterator[str]:
    if not profile.steps:
        yield "<p>no steps</p>"
        return
    heads = "".join(f'<th scope="col" data-sort{" class=words" * (head in WORDS)}>{head}</th>' for head in HEADS)
    yield (f'<section><h2>Steps</h2><div class="scroll"><table class="steps"><thead><tr>{heads}</tr></thead><tbody>'
           f'{"".join(_row(profile, step) for step in profile.steps)}</tbody></table></div>')
    if any(step.chain is not None for step in profile.steps):
        yield ('<p class="quiet">Steps with a bar at their number go together in a chain, some rows at a time; they '
               "share its time by what their blocks took.</p>")
    if profile.peaks is not None:
        yield ('<p class="quiet">% peak is the share of copying or of multiply-adds of the step\'s own kind, whichever '
               "is more; what fits into a cache and is faster than copying memory is held against multiply-adds.</p>")
    yield "</section>"


def _row(profile: Profile, step: StepProfile) -> str:
    percent, by = step.against(profile.peaks)
    share = 100 * step.seconds / profile.seconds if profile.seconds else 0.0
    chain = "" if step.chain is None else ' class="chained"'
    name = _link(profile, step.number, step.kernel)
    cells = [
        f"<td{chain} data-value=\"{step.number}\">{step.number}</td>",
        f'<td class="words" title="{escape(step.title)}">{name}</td>',
        f'<td class="words" title="{escape(", ".join(step.lines))}">{escape(brief_lines(step.lines))}</td>',
        f'<td data-value="{step.seconds}">{seconds(step.seconds)}</td>',
        _share(share), f"<td>{step.calls:.0f}</td>", _number(step.gb_s), _number(step.gflop_s),
        _number(percent, f"{percent:.0f}"), f"<td>{by}</td>", f"<td>{escape(step.fits)}</td>",
        _number(step.bytes_moved, f"{step.bytes_moved:,}"),
        _number(step.flops, f"{step.flops:,}")]
    return f"<tr>{''.join(cells)}</tr>"


def _share(percent: float) -> str:
    return (f'<td data-value="{percent}"><span class="share" style="--share:{min(percent, 100):.1f}%">{percent:.1f}'
            "</span></td>")


def _link(profile: Profile, step: int, name: str) -> str:
    """The kernel's name, which leads to its source."""
    number = _kernel_number(profile, step)
    return escape(name) if number is None else f'<a href="#kernel{number}">{escape(name)}</a>'


def _number(value: float, text: str = "") -> str:
    return f'<td data-value="{value}">{(text or digits(value)) if value else "–"}</td>'


def _kernel_number(profile: Profile, step: int) -> int | None:
    return None if profile.program is None else profile.program.steps[step].kernel


def _roofline(profile: Profile) -> Iterator[str]:
    plots = list(_plots(profile))
    if not plots:
        return
    yield ('<section><h2>Roofline</h2><p class="quiet">Each step by its operations for a byte of inputs and results; '
           "larger marks take more of the call. The line is what copying can feed and multiply-adds can do; what fits "
           "into caches may lie above its left part.</p>")
    for dtype, plot in plots:
        yield f'<h3>{dtype}</h3><div class="scroll">{plot}</div>'
    yield "</section>"


def _plots(profile: Profile) -> Iterator[tuple[str, str]]:
    """A roofline for each kind of floats that is computed with, the one that takes most of the call first."""
    peaks = profile.peaks
    if peaks is None:
        return
    named = _labelled(profile)
    kinds: dict[str, list[StepProfile]] = {"float32": [], "float64": []}
    for step in profile.steps:
        if step.flops and step.bytes_moved and step.seconds:
            kinds["float64" if step.dtype == "float64" else "float32"].append(step)
    for dtype, steps in sorted(kinds.items(), key=lambda item: -sum(step.seconds for step in item[1])):
        peak = peaks.float64_gflop_s if dtype == "float64" else peaks.float32_gflop_s
        points = [Point(f"step {step.number}, {step.kernel}", step.flops / step.bytes_moved, step.gflop_s,
                        step.number % COLOURS, 3 + 9 * math.sqrt(min(step.seconds / profile.seconds, 1)),
                        str(step.number) if step.number in named else "") for step in steps]
        plot = roofline(points, peaks.copy_gb_s, peak, f"Roofline of the steps in {dtype}")
        if plot:
            yield dtype, plot


def _labelled(profile: Profile) -> set[int]:
    """The longest steps whose labels do not lie on each other."""
    places: dict[int, tuple[float, float]] = {}
    for step in sorted(profile.steps, key=lambda each: -each.seconds):
        if step.flops and step.bytes_moved and step.seconds and len(places) < LABELLED:
            place = math.log10(step.flops / step.bytes_moved), math.log10(step.gflop_s)
            if all(abs(place[0] - x) > 0.25 or abs(place[1] - y) > 0.2 for x, y in places.values()):
                places[step.number] = place
    return set(places)


def roofline_picture(profile: Profile) -> str:
    """The first of the rooflines as a picture of its own."""
    plots = list(_plots(profile))
    if not plots:
        raise ArgumentError("this profile has no roofline: no step's operations and bytes are known together with what "
                            "the machine can do")
    dtype, plot = plots[0]
    named = sorted(_labelled(profile))
    names = [(str(step.number), f"{clip(step.kernel, NAME_WIDTH)}, {seconds(step.seconds)}, "
              f"{100 * step.seconds / profile.seconds:.1f}%") for step in (profile.steps[each] for each in named)]
    sizes = "".join(f", {name} = {size}" for name, size in profile.sizes.items())
    assert profile.peaks is not None
    peak = profile.peaks.float64_gflop_s if dtype == "float64" else profile.peaks.float32_gflop_s
    head = (f"Roofline: steps in {dtype}, {_machine(profile)}{sizes}; {seconds(profile.seconds)} a call; copies "
            f"{profile.peaks.copy_gb_s:.0f} GB/s, multiplies and adds {peak:.0f} GFlop/s")
    foot = "".join(
        f'<text x="{LEFT + (number % 2) * 292}" y="{HEADROOM + HEIGHT + 14 + 16 * (number // 2)}">'
        f'<tspan class="beside" font-weight="bold">{escape(mark)}</tspan>  {escape(text)}</text>'
        for number, (mark, text) in enumerate(names))
    height = HEADROOM + HEIGHT + 16 * ((len(names) + 1) // 2) + 12
    inside = plot.replace("<svg ", f'<svg y="{HEADROOM}" width="{WIDTH}" height="{HEIGHT}" ', 1)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * 1.5:.0f}" height="{height * 1.5:.0f}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" style="background:var(--paper)">'
            f"<style>{escape(STYLE, quote=False)}{PICTURE_STYLE}</style>"
            f'<text class="beside" x="8" y="20">{escape(xml_safe(head))}</text>{inside}{foot}</svg>\n')


def _memory(profile: Profile) -> Iterator[str]:
    if profile.program is None:
        return
    plan = memory_plan(profile.program, profile.sizes)
    if plan.arena:
        yield f'<section><h2>Memory</h2><div class="scroll plan">{render_memory_svg(plan, "auto")}</div></section>'


def _compiling(profile: Profile) -> Iterator[str]:
    if not profile.compiling:
        return
    yield f'<section><h2>Compile</h2><p class="quiet">program: {escape(profile.account or "given as it is")}</p>'
    for kind, title in (("pass", "passes"), ("kernel", "kernels")):
        found = [each for each in profile.compiling if each.kind == kind]
        if not found:
            continue
        most, total = max(each.seconds for each in found), sum(each.seconds for each in found)
        bars = "".join(
            f'<div class="row wide"><span title="{escape(each.name)}">{escape(each.name)}</span>'
            f'{time_bar(each.seconds, most, "cold", f"{each.name}: {seconds(each.seconds)}; {each.remark}")}</div>'
            for each in found)
        opened = " open" if kind == "pass" else ""
        yield f"<details{opened}><summary>{len(found)} {title}, {seconds(total)}</summary>"
        yield f"{bars}</details>"
    yield "</section>"


def _sources(profile: Profile) -> Iterator[str]:
    if profile.program is None or not profile.program.kernels:
        return
    spent: dict[int, float] = {}
    for step in profile.steps:
        index = profile.program.steps[step.number].kernel
        spent[index] = spent.get(index, 0.0) + step.seconds
    yield "<section><h2>Sources of kernels</h2>"
    for number, kernel in enumerate(profile.program.kernels):
        yield (f'<details id="kernel{number}"><summary>{escape(kernel.name)}, {seconds(spent.get(number, 0.0))} a call'
               f'</summary><div class="scroll"><pre>{escape(kernel.text.strip())}</pre></div></details>')
    yield "</section>"
