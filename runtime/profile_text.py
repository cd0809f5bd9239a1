"""A profile as text for a terminal of any width, and as data for a machine."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from .figures import align, count, digits, seconds
from .profile import Profile, StepProfile

WIDTH = 100
KERNEL_LEAST, LINES_LEAST = 16, 16
"""Characters that a kernel's name and its lines get before other columns are left out."""

PASSES_SHOWN = 4
KERNELS_SHOWN, STEPS_SHOWN = 20, 40
"""The longest of them, unless all are asked for."""

NOTICED, SHORT = 0.02, 1e-4
"""More overhead than this, in calls of less than so many seconds, is remarked upon; in others it is not the clock's."""


class Column(NamedTuple):
    """A column of the table of steps; those of a higher `rank` are left out first where it is narrow."""

    head: str
    cell: Callable[[Profile, StepProfile], str]
    rank: int = 0


def _share(profile: Profile, step: StepProfile) -> str:
    return f"{100 * step.seconds / profile.seconds:.1f}" if profile.seconds else "-"


def _rate(value: float) -> str:
    return digits(value) if value else "-"


def _peak(profile: Profile, step: StepProfile) -> str:
    percent, by = step.against(profile.peaks)
    return f"{percent:.0f} {by}" if by else "-"


COLUMNS = (
    Column("time", lambda _, step: seconds(step.seconds)),
    Column("%", _share),
    Column("calls", lambda _, step: f"{step.calls:.0f}", 5),
    Column("GB/s", lambda _, step: _rate(step.gb_s)),
    Column("GFlop/s", lambda _, step: _rate(step.gflop_s), 2),
    Column("% peak", _peak, 1),
    Column("fits", lambda _, step: step.fits, 3),
    Column("bytes", lambda _, step: f"{step.bytes_moved:,}" if step.bytes_moved else "-", 4),
)


def profile_text(profile: Profile, width: int = WIDTH, verbose: bool = False) -> str:
    """Headline, where the time of a call goes, the kernels that serve several steps, the steps, and the compile. Of
    many steps the longest, unless it is `verbose`."""
    parts = [_headline(profile, width), _parts(profile, width), _kernels(profile, width),
             _steps(profile, width, verbose), _compiling(profile, width)]
    return "\n\n".join(filter(None, parts))


def is_noticed(profile: Profile) -> bool:
    """Whether looking at calls made them longer by more than it should."""
    return profile.overhead > NOTICED and profile.seconds < SHORT


def _headline(profile: Profile, width: int) -> str:
    sizes = "".join(f", {name} = {size}" for name, size in profile.sizes.items())
    threads = "one thread" if profile.threads == 1 else f"{profile.threads} threads"
    machine = threads if profile.device == "cpu" else profile.device
    texts = [f"{seconds(profile.seconds)} a call in {count(len(profile.steps), 'step')} on {machine}{sizes}; "
             f"{seconds(profile.plain_seconds)} without looking at it ({profile.overhead:+.1%}), "
             f"the fastest quarter of {count(profile.rounds, 'call')} each"]
    if profile.peaks is not None:
        peaks = profile.peaks
        texts.append(f"this machine, {'one thread' if peaks.threads == 1 else f'{peaks.threads} threads'}: copies "
                     f"{peaks.copy_gb_s:.1f} GB/s, multiplies and adds {peaks.float32_gflop_s:.0f} GFlop/s in float32, "
                     f"{peaks.float64_gflop_s:.0f} in float64")
    return "\n".join(textwrap.fill(text, width) for text in texts)


def _parts(profile: Profile, width: int) -> str:
    rows = [(part.name, seconds(part.seconds), f"{100 * part.seconds / profile.seconds:.1f}%", part.what)
            for part in profile.parts if profile.seconds]
    if not rows:
        return ""
    return f"{profile.accounted:.1%} of it accounted for\n" + _clipped(align(rows, 1, last_left=True), width)


def _kernels(profile: Profile, width: int) -> str:
    """Kernels with all of their steps, where there are more steps than a screen has lines."""
    kernels = profile.by_kernel()
    if len(profile.steps) <= STEPS_SHOWN or len(kernels) == len(profile.steps) or not profile.seconds:
        return ""
    rows = [["kernel", "steps", "time", "%", "GB/s", "GFlop/s"]]
    rows += [[clip(each.kernel, width - 48), str(len(each.steps)), seconds(each.seconds),
              f"{100 * each.seconds / profile.seconds:.1f}", _rate(each.gb_s), _rate(each.gflop_s)]
             for each in kernels[:KERNELS_SHOWN]]
    more = len(kernels) - KERNELS_SHOWN
    return align(rows, 1) + (f"\n  and {count(more, 'more kernel')}" if more > 0 else "")


def _steps(profile: Profile, width: int, verbose: bool) -> str:
    if not profile.steps:
        return "no steps"
    left_out: tuple[StepProfile, ...] = ()
    if len(profile.steps) > STEPS_SHOWN and not verbose:
        longest_first = sorted(profile.steps, key=lambda step: -step.seconds)
        left_out = tuple(longest_first[STEPS_SHOWN:])
        chosen = sorted(longest_first[:STEPS_SHOWN], key=lambda step: step.number)
        profile = replace(profile, steps=tuple(chosen))
    shown = [column for column in COLUMNS if column.rank != 1 or profile.peaks is not None]
    cells = {column.head: [column.cell(profile, step) for step in profile.steps] for column in shown}

    longest = max(len(step.kernel) for step in profile.steps)

    def taken() -> int:
        fixed = sum(max(map(len, (column.head, *cells[column.head]))) + 2 for column in shown)
        number = len(str(max(step.number for step in profile.steps)))
        return fixed + number + 2 + 2 + 2     # and the gaps of the number, the name and the lines

    wanted = min(longest, KERNEL_LEAST) + LINES_LEAST
    while taken() + wanted > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    texts = [brief_lines(step.lines) for step in profile.steps]
    room = width - taken()
    lines = min(max(map(len, texts)), max(LINES_LEAST, room - longest, room // 2))
    names = max(KERNEL_LEAST, room - lines)
    rows = [["", "kernel", *(column.head for column in shown), "lines"]]
    for position, step in enumerate(profile.steps):
        rows.append([str(step.number), clip(step.kernel, names), *(cells[column.head][position] for column in shown),
                     clip(texts[position], lines)])
    chained = any(step.chain is not None for step in profile.steps)
    notes = [] if not is_noticed(profile) else [
        "a call this short takes noticeably longer while it is looked at, for the clock is read some times in it"]
    notes += ["steps of a chain share its time by what their blocks took"] if chained else []
    if any(step.against(profile.peaks)[0] > 100 and step.against(profile.peaks)[1] == "copy" for step in profile.steps):
        notes.append("what fits into a cache may be faster than copying memory is")
    if left_out:
        share = 100 * sum(step.seconds for step in left_out) / profile.seconds if profile.seconds else 0.0
        notes.insert(0, f"these are the {STEPS_SHOWN} longest steps; {len(left_out)} shorter ones take {share:.1f}% of "
                        "the call (all of them: --verbose, or export_profile)")
    tail = ["", *textwrap.wrap("; ".join(notes), width)] if notes else []
    return "\n".join([align(rows, 2, last_left=True), *tail])


def _compiling(profile: Profile, width: int) -> str:
    passes = [each for each in profile.compiling if each.kind == "pass"]
    kernels = [each for each in profile.compiling if each.kind == "kernel"]
    texts = []
    if profile.account:
        texts.append(f"program: {profile.account}")
    if passes:
        longest = sorted(passes, key=lambda each: -each.seconds)[:PASSES_SHOWN]
        texts.append(f"passes: {seconds(sum(each.seconds for each in passes))}, the longest "
                     + ", ".join(f"{each.name} {seconds(each.seconds)}" for each in longest))
    if kernels:
        compiled = sum(each.remark.startswith("compiled") for each in kernels)
        texts.append(f"kernels: {seconds(sum(each.seconds for each in kernels))} for {len(kernels)}, "
                     f"{compiled} of them compiled")
    return "\n".join(textwrap.fill(text, width, subsequent_indent="  ") for text in texts)


def brief_lines(lines: Sequence[str]) -> str:
    """model.py:3,7 other.py:2 of lines, each file once."""
    files: dict[str, list[str]] = {}
    for line in lines:
        file, colon, number = " ".join(line.split()).rpartition(":")
        files.setdefault(file if colon else number, []).extend([number] if colon else [])
    return " ".join(f"{file}:{','.join(numbers)}" if numbers else file for file, numbers in files.items())


def clip(text: str, widest: int) -> str:
    return text if len(text) <= widest else text[:max(widest - 1, 0)] + "…"


def _clipped(text: str, width: int) -> str:
    return "\n".join(clip(line, width) for line in text.splitlines())


def profile_data(profile: Profile) -> dict[str, Any]:
    """Everything but the trace."""
    steps = []
    for step in profile.steps:
        percent, by = step.against(profile.peaks)
        facts = asdict(step)
        facts["computes"], facts["bytes"] = facts.pop("title"), facts.pop("bytes_moved")
        steps.append({**facts, "lines": list(step.lines), "gb_s": step.gb_s, "gflop_s": step.gflop_s,
                      **({"percent_of_peak": percent, "bound_by": by} if profile.peaks is not None else {})})
    return {
        "kind": "profile", "version": 1, "device": profile.device, "threads": profile.threads,
        "sizes": dict(profile.sizes), "rounds": profile.rounds, "seconds": profile.seconds,
        "plain_seconds": profile.plain_seconds, "overhead": profile.overhead, "accounted": profile.accounted,
        "peaks": None if profile.peaks is None else profile.peaks._asdict(),
        "parts": [{"name": part.name, "seconds": part.seconds, "what": part.what} for part in profile.parts],
        "steps": steps, "kernels": [each._asdict() for each in profile.by_kernel()],
        "compiling": [asdict(each) for each in profile.compiling], "account": profile.account}
