"""What can go wrong while PTX runs. Each kind of defect is a class of its own: a test asks for the right one.

A fault is raised where it is found, as a message and the thread concerned; the machine adds the instruction, thread
and block (`PtxError.locate`).
"""

from __future__ import annotations


class PtxError(Exception):
    """PTX that cannot be run, or that does what no correct kernel does."""

    def __init__(self, message: str, thread: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.thread = thread     # number of the thread within the launch
        self.instruction = ""
        self.place = ""

    def locate(self, kernel: str, line: int, instruction: str, threads_a_block: int) -> PtxError:
        """The same fault, with where it happened; the first place given is kept."""
        if not self.instruction:
            self.instruction = instruction
            who = "" if self.thread is None else (f"thread {self.thread % threads_a_block} of block "
                                                  f"{self.thread // threads_a_block}, ")
            self.place = f"{who}line {line} of {kernel}"
        return self

    def __str__(self) -> str:
        return f"{self.message}\n  {self.instruction}\n  {self.place}" if self.instruction else self.message


class Unsupported(PtxError):
    """An instruction, modifier or declaration that this machine does not know."""


class Approximate(Unsupported):
    """An instruction whose result is not determined by its operands alone."""


class LocalMemory(Unsupported):
    """The kernel keeps data in local memory."""


class LaunchError(PtxError):
    """Grid, block or arguments that the kernel does not take."""


class OutOfBounds(PtxError):
    """An access outside of every allocation."""


class Misaligned(PtxError):
    """An access at an address that is no multiple of its width."""


class Uninitialised(PtxError):
    """A read of a register or of memory that nothing was written to."""


class Race(PtxError):
    """Two threads meet in one place, at least one of them writes, and nothing orders them."""


class ReadOnlyWritten(Race):
    """The launch writes what it also reads by ld.global.nc."""


class DivergentBarrier(PtxError):
    """Some threads of a block wait at a barrier that others never reach."""


class InactiveLane(PtxError):
    """A warp instruction names, or reads from, a lane that does not take part."""


class Undefined(PtxError):
    """An operation without a defined result, such as a division of integers by zero."""


class Trap(PtxError):
    """The kernel ran into `trap`."""


class Runaway(PtxError):
    """The kernel executed more instructions than the run allows."""
