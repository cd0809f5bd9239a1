"""The sort kernel for CUDA as text: positions in order, row by row; a block takes a row.

A merge sort whose merges are done by all threads at once: an element of a sorted run finds its place in the union of
two runs by counting, with a binary search, the elements of the other run that come before it. Equal elements of the
left run come first, so it is stable. Positions move between the result and a scratch array of the same size.
Arguments: x, result, scratch (addresses), n; parallel iterations: rows.
"""

from __future__ import annotations

from ..program import Launch
from .cpu_text import header
from .cuda_text import LANGUAGE

THREADS = 256

_TEXT = '''\
def {name}(a0, a1, a2, a3, stop):
    x = input_{dtype}(a0)
    result = pointer_int64(a1)
    scratch = pointer_int64(a2)
    n = a3
    base = block() * n
    t = thread()
    for j in range(t, n, {threads}):
        result[base + j] = j
    barrier()
    width = 1
    in_result = True
    while width < n:
        for slot in range(t, n, {threads}):
            left = quotient_of(slot, 2 * width) * 2 * width
            middle = min(left + width, n)
            end = min(left + 2 * width, n)
            is_right = slot >= middle
            place = result[base + slot] if in_result else scratch[base + slot]
            a = x[base + place]
            low = left if is_right else middle
            high = middle if is_right else end
            # how many elements of the other run come before this one
            while low < high:
                half = (low + high) >> 1
                other = result[base + half] if in_result else scratch[base + half]
                b = x[base + other]
                first = ({not_after}) if is_right else ({before})
                if first:
                    low = half + 1
                else:
                    high = half
            goal = slot - middle + low
            if in_result:
                scratch[base + goal] = place
            else:
                result[base + goal] = place
        barrier()
        in_result = not in_result
        width *= 2
    if not in_result:
        for j in range(t, n, {threads}):
            result[base + j] = scratch[base + j]
'''


def render_argsort(dtype: str, descending: bool) -> tuple[str, str, Launch]:
    """Name, text and launch of the kernel that sorts rows of `dtype`; nan comes last in both directions."""
    sign = ">" if descending else "<"
    before, after = f"b {sign} a", f"a {sign} b"
    if dtype.startswith("float"):
        before += " or (a != a and b == b)"
        after += " or (b != b and a == a)"
    name = f"row_argsort_{'descending' if descending else 'ascending'}"
    text = _TEXT.format(name=name, dtype=dtype, before=before, not_after=f"not ({after})", threads=THREADS)
    return name, header(text, LANGUAGE) + text, Launch(THREADS, 1)
