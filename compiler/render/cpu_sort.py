"""The sort kernel of the CPU as text: positions in order, row by row.

A bottom-up merge sort (Knuth, TAOCP vol. 3, 5.2.4): stable, no recursion, n log n comparisons whatever the data. The
positions move between the result and a scratch array of the same size; an odd number of passes ends with a copy.
Argument table: [x, result, scratch, n]; parallel iterations: rows.
"""

from __future__ import annotations

from .cpu_text import header

_TEXT = '''\
def {name}(args, start, stop):
    x = pointer_{dtype}(args, 0)
    result = pointer_int64(args, 1)
    scratch = pointer_int64(args, 2)
    n = extent(args, 3)
    for row in range(start, stop):
        base = row * n
        for j in range(n):
            result[base + j] = j
        width = 1
        in_result = True
        while width < n:
            left = 0
            while left < n:
                middle = min(left + width, n)
                end = min(left + 2 * width, n)
                p = left
                q = middle
                for slot in range(left, end):
                    take_right = p >= middle
                    if p < middle and q < end:
                        a_place = result[base + p] if in_result else scratch[base + p]
                        b_place = result[base + q] if in_result else scratch[base + q]
                        a = x[base + a_place]
                        b = x[base + b_place]
                        take_right = {before}
                    chosen = q if take_right else p
                    place = result[base + chosen] if in_result else scratch[base + chosen]
                    if in_result:
                        scratch[base + slot] = place
                    else:
                        result[base + slot] = place
                    if take_right:
                        q += 1
                    else:
                        p += 1
                left += 2 * width
            in_result = not in_result
            width *= 2
        if not in_result:
            for j in range(n):
                result[base + j] = scratch[base + j]
'''


def render_argsort(dtype: str, descending: bool) -> tuple[str, str]:
    """Name and source of the kernel that sorts rows of `dtype`; nan comes last in both directions."""
    sign = ">" if descending else "<"
    before = f"b {sign} a"
    if dtype.startswith("float"):
        before += " or (a != a and b == b)"
    name = f"row_argsort_{'descending' if descending else 'ascending'}"
    text = _TEXT.format(name=name, dtype=dtype, before=before)
    return name, header(text) + text
