"""How commands end: what they return, and what is said of mistakes, failures and interruptions.

    0    done
    1    the command was right, but could not be carried out, or found something wrong
    2    the command was wrong: no such file, name or option
    3    `bench --compare` found something slower
    130  interrupted (Ctrl-C)
    141  whoever read the output went away, as `head` does

Mistakes of the user are told in one message on standard error, without a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches

from ..errors import StaticGraphError

FAILED, WRONG, INTERRUPTED, NO_READER = 1, 2, 130, 141


class CommandError(Exception):
    """A mistake in the command; the text is for the user."""


def reporting(work: Callable[[], int]) -> int:
    """Do the work of a command; the exit status. A status that argparse exits with is passed on."""
    try:
        try:
            return int(work())
        finally:
            sys.stdout.flush()     # here, where a reader who went away is understood
    except CommandError as error:
        return _told(str(error), WRONG)
    except StaticGraphError as error:
        return _told(f"{type(error).__name__}: {error}", FAILED)
    except ModuleNotFoundError as error:     # of an installation that lost one of the packages that it had
        if (error.name or "staticgraph").partition(".")[0] == "staticgraph":
            raise
        package = str(error.name).partition(".")[0]
        return _told(f"the package {package} is missing: pip install {package}", FAILED)
    except BrokenPipeError:
        _forget_output()
        return NO_READER
    except KeyboardInterrupt:
        return _told("interrupted", INTERRUPTED)
    except OSError as error:
        return _told(str(error), FAILED)


def _told(text: str, status: int) -> int:
    with suppress(OSError):
        print(f"staticgraph: {text}", file=sys.stderr, flush=True)
    return status


def _forget_output() -> None:
    """What is left in the buffer goes nowhere, so that Python does not stumble over it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'loss'?`` where a known name is much like this one, else nothing."""
    found = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean '{found[0]}'?" if found else ""
