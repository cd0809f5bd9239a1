"""Philox4x32-10 in Python integers, after the paper, and the published test vectors (Random123, `kat_vectors`)."""

from __future__ import annotations

from collections.abc import Sequence

MASK = 2**32 - 1
VECTORS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK, MASK, MASK, MASK), (MASK, MASK), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
)
"""(counter, key, block)"""


def block(counter: Sequence[int], key: Sequence[int]) -> tuple[int, ...]:
    """The four words of a block."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = q >> 32 ^ b ^ k, q & MASK, p >> 32 ^ d ^ m, p & MASK
        k, m = k + 0x9E3779B9 & MASK, m + 0xBB67AE85 & MASK
    return a, b, c, d


def word(index: int, seed: int, counter: int, stream: int) -> int:
    """What `random_bits` is to give."""
    index, seed, counter, stream = (int(each) % 2**64 for each in (index, seed, counter, stream))
    number = index // 4
    last = counter >> 32 ^ (number >> 32 << 16) & MASK
    return block((number & MASK, stream & MASK, counter & MASK, last), (seed & MASK, seed >> 32))[index % 4]
