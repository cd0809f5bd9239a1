"""Text from outside, made fit for one line, for a limited width, and for XML.

Names, scopes, dict keys and file names are the user's and may hold anything: quotes, tags, newlines, control
characters, halves of surrogate pairs.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """The text with every run of white space and separators as one space, and nothing that commands a terminal or turns
    the direction of what follows."""
    return _COMMANDS.sub("\ufffd", " ".join(text.split()))


def clip(text: str, widest: int) -> str:
    """At most `widest` characters, the last of them an ellipsis where some were cut."""
    return text if len(text) <= widest else text[:widest - 1] + "…"


def columns(text: str) -> int:
    """The width of a text in characters of a fixed-width font."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 0 if unicodedata.combining(each) else 1
               for each in text)


def xml_safe(text: str) -> str:
    """The text without characters that XML cannot hold, even escaped."""
    return _NOT_XML.sub("\ufffd", text)


def escape(text: str) -> str:
    """The text for the inside of an XML element or attribute."""
    for raw, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        text = text.replace(raw, entity)
    return xml_safe(text)
