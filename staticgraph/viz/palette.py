"""Colours by role, for light and for dark paper, and what stands for each role and part in a legend.

Everything that is drawn names a role; a format turns it into a colour of the theme. Kernels have hues a golden angle
apart, so that neighbours differ, and tint the paper below them.
"""

from __future__ import annotations

import colorsys

HUES = 21
"""Kernels of one hue are this far apart."""

COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14181d"), "ink": ("#1b1f24", "#e8ecf0"), "quiet": ("#5b6470", "#a3aebb"),
    "line": ("#7b8694", "#7f8b99"), "plain": ("#ffffff", "#1d232a"), "plain edge": ("#59636e", "#a3aebb"),
    "forward": ("#eef5fd", "#1b2736"), "forward edge": ("#3b6fb6", "#6ea6e8"),
    "backward": ("#fdf1ea", "#33231b"), "backward edge": ("#b5562f", "#ef8f63"),
    "update": ("#fbeff5", "#331e2a"), "update edge": ("#b03a72", "#ee7fb0"),
    "mixed": ("#f3f1fa", "#262338"), "mixed edge": ("#6f5fb0", "#ab9be8"),
    "input": ("#d7ebff", "#173a5c"), "input edge": ("#2f7cc4", "#62ade8"),
    "variable": ("#ffe9c7", "#4a3710"), "variable edge": ("#c98a1b", "#e0ac4b"),
    "constant": ("#eceff2", "#2a3037"), "constant edge": ("#8b95a1", "#8b95a1"),
    "output": ("#d3f5dc", "#153f23"), "output edge": ("#2e9d52", "#56c47c"),
    "written": ("#ffdede", "#4d1f22"), "written edge": ("#cf4a4a", "#ee7d7d"),
    "buffer": ("#f2f4f6", "#20262d"), "buffer edge": ("#6b7784", "#95a1ae"),
    "jump": ("#ffffff", "#14181d"), "jump edge": ("#8b95a1", "#8b95a1"),
}
"""Role: (on light paper, on dark paper)."""

ROLES = {"input": "input", "variable": "variable", "constant": "constant", "buffer": "buffer in the arena",
         "output": "output", "update": "new value of a variable", "jump": "value from elsewhere"}
"""What marks other than ops are called, in the order of the legend."""

PARTS = {"forward": "forward", "backward": "backward", "update": "update", "mixed": "forward and backward"}
"""What parts of a training step are called."""


def fill_of(role: str, part: str) -> str:
    """The role of a mark's fill; that of its edge is the same with " edge"."""
    if role == "op":
        return part or "plain"
    return "written" if role == "update" else role


def hue(number: int) -> str:
    """The role of a kernel's colour."""
    return f"kernel {number % HUES}"


def colour(role: str, theme: str) -> str:
    """#rrggbb of a role on light or dark paper."""
    if role.startswith("kernel "):
        turn = (0.58 + int(role[7:]) * 0.381966) % 1.0
        channels = colorsys.hls_to_rgb(turn, *((0.58, 0.45) if theme == "light" else (0.62, 0.5)))
        return "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)
    return COLOURS[role][theme == "dark"]
