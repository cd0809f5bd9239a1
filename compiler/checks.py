"""What a program says of what it watches over: guards and prints of the graph in, plain data of the Program out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from staticgraph import watching
from staticgraph.op import operands_message
from staticgraph.ops.debug import print_label

from .program import Check, Print


def told(check: Check, watched: Sequence[watching.Watched]) -> Check:
    """The check with its text; where the graph is at hand, the error says more than this (see `blame`)."""
    if check.kind != "guard":
        return check
    found = watched[check.guard]
    node = found.node
    if found.kind == "assert":
        text = operands_message(node.attrs["message"] or "assert_that: a condition does not hold", node.inputs,
                                f"asserted at {node.location}")
    else:
        held = "nan" if found.kind == "nan" else "nan or inf"
        text = operands_message(f"{found.what or node.op.name} holds {held}", [node])
    return replace(check, message=text, kind=found.kind, shape=found.value.shape)


def told_print(found: watching.Print) -> Print:
    node = found.node
    return Print(print_label(node), str(node.location), node.attrs["every"], node.attrs["edgeitems"])
