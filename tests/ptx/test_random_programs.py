"""Random programs against a machine of a few lines that runs one thread after the other.

What can differ is not the arithmetic but the bookkeeping: registers that all threads agree on, copies, guards, paths
that part in any nesting, loops of different length, and groups of threads that are neighbours or are not.
"""

import random

import numpy as np
import pytest

from .snippets import address, run

WORD = 2**32
REGISTERS = 6     # %r4 .. %r9
Line = tuple[str, ...]

OPERATIONS = {"add.s32": lambda a, b: a + b, "sub.s32": lambda a, b: a - b, "mul.lo.s32": lambda a, b: a * b,
              "xor.b32": lambda a, b: a ^ b, "and.b32": lambda a, b: a & b, "min.u32": min, "max.u32": max,
              "shr.u32": lambda a, b: a >> min(b, 32), "shl.b32": lambda a, b: a << min(b, 32)}
TESTS = {"lt.u32": lambda a, b: a < b, "eq.s32": lambda a, b: a == b, "ge.u32": lambda a, b: a >= b}


class Writer:
    """Writes a program as lines: an opcode and its operands; "label" and "goto" stand for labels and branches."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[Line] = [("mov.u32", "%r4", "%r0"), ("mov.u32", "%r5", "%r1"), ("mov.u32", "%r6", "%r2"),
                                  ("mov.u32", "%r7", "7"), ("mov.u32", "%r8", "%r7"), ("mov.u32", "%r9", "%r3")]
        self.labels = 0
        self.statements(12, 3)

    def register(self) -> str:
        return f"%r{self.random.randrange(4, 4 + REGISTERS)}"

    def operand(self) -> str:
        return self.register() if self.random.random() < 0.7 else str(self.random.choice([0, 1, 3, 17, 31, 40]))

    def label(self) -> str:
        self.labels += 1
        return f"$L{self.labels}"

    def test(self) -> str:
        """A comparison into a predicate, which it returns."""
        predicate = f"%p{self.random.randrange(1, 5)}"
        self.lines.append((f"setp.{self.random.choice(list(TESTS))}", predicate, self.register(), self.operand()))
        return predicate

    def statements(self, count: int, depth: int) -> None:
        for _ in range(count):
            choice = self.random.random()
            if choice < 0.5 or depth == 0:
                self.assign("")
            elif choice < 0.65:
                guard = self.test()
                self.assign(f"@{self.random.choice(['', '!'])}{guard} ")
            elif choice < 0.85:
                self.branch(depth)
            else:
                self.loop(depth)

    def assign(self, guard: str) -> None:
        choice = self.random.random()
        if choice < 0.2:
            self.lines.append((guard + "mov.u32", self.register(), self.operand()))
        elif choice < 0.3:
            predicate = self.test()
            self.lines.append((guard + "selp.u32", self.register(), self.operand(), self.operand(), predicate))
        else:
            operation = self.random.choice(list(OPERATIONS))
            self.lines.append((guard + operation, self.register(), self.register(), self.operand()))

    def branch(self, depth: int) -> None:
        other, end = self.label(), self.label()
        self.lines.append((f"@{self.test()} goto", other))
        self.statements(2, depth - 1)
        self.lines.append(("goto", end))
        self.lines.append(("label", other))
        self.statements(2, depth - 1)
        self.lines.append(("label", end))

    def loop(self, depth: int) -> None:
        """At most seven rounds: the counter is a register that nothing else writes."""
        counter, start = f"%r{20 + depth}", self.label()
        self.lines.append(("and.b32", counter, self.register(), "7"))
        self.lines.append(("label", start))
        self.statements(2, depth - 1)
        self.lines.append(("setp.eq.s32", "%p7", counter, "0"))
        self.lines.append(("sub.s32", counter, counter, "1"))
        self.lines.append(("@!%p7 goto", start))

    def ptx(self) -> str:
        text = [f"{words[1]}:" if words[0] == "label" else
                f"\t{words[0].replace('goto', 'bra')} {', '.join(words[1:])};"
                for words in self.lines]
        stores = [address(0, 4 * REGISTERS)]
        stores += [f"\tst.global.u32 [%q2+{4 * k}], %r{4 + k};\n" for k in range(REGISTERS)]
        return "\n".join(text) + "\n" + "".join(stores)


def run_thread(lines: list[Line], thread: int, block: int, threads: int) -> list[int]:
    state: dict[str, int] = {"%r0": thread, "%r1": block * threads + thread, "%r2": block, "%r3": threads}
    labels = {words[1]: k for k, words in enumerate(lines) if words[0] == "label"}

    def value(operand: str) -> int:
        return state[operand] if operand[0] == "%" else int(operand)

    at = 0
    while at < len(lines):
        opcode, *operands = lines[at]
        at += 1
        if opcode[0] == "@":
            guard, opcode = opcode.split(" ")
            if bool(state[guard.strip("@!")]) == ("!" in guard):
                continue
        if opcode == "goto":
            at = labels[operands[0]]
        elif opcode.startswith("setp."):
            state[operands[0]] = TESTS[opcode[5:]](value(operands[1]), value(operands[2]))
        elif opcode == "mov.u32":
            state[operands[0]] = value(operands[1])
        elif opcode == "selp.u32":
            state[operands[0]] = value(operands[1] if state[operands[3]] else operands[2])
        elif opcode != "label":
            state[operands[0]] = OPERATIONS[opcode](value(operands[1]), value(operands[2])) % WORD
    return [state[f"%r{4 + k}"] for k in range(REGISTERS)]


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int) -> None:
    writer = Writer(seed)
    grid, threads = [(1, 32), (3, 20), (2, 64), (5, 1)][seed % 4]
    expected = [run_thread(writer.lines, thread, block, threads) for block in range(grid) for thread in range(threads)]
    for order in (None, seed):
        (got,), _ = run(writer.ptx(), [np.zeros((grid * threads, REGISTERS), np.uint32)], grid, threads, seed=order)
        assert got.tolist() == expected, writer.ptx()
