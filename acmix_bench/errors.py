"""Errors that a user can mend: one line that says what, where, and the known names or the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

# Why a version has no samples where the one that it was to be timed in turns with has failed.
WAITED_IN_VAIN = "the other version did not come to be timed in turns"
MOST_NAMES, NEAR_NAMES = 10, 5  # of those that an error lists, and of more than those
LONGEST = 1000  # characters of the line
LISTED = (
    "name",
    "variant",
    "experiment",
    "operator",
    "backbone",
    "head",
    "data set",
    "meter",
    "axis",
    "key of the protocol",
)


class UserError(Exception):
    """A user's mistake. The command line prints its one line and exits with code 2."""

    def __init__(self, line: str = "") -> None:
        super().__init__(_as_one_line(_without_traceback(line)))


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does, with exit code 143."""


class Interrupted(Exception):
    """Ctrl-C, with a line on what is kept. The command line prints it and exits with code 130, or 143 for SIGTERM."""

    def __init__(self, line: str, *, terminated: bool = False) -> None:
        super().__init__(line)
        self.terminated = terminated


class ShapeError(UserError, ValueError):
    """A size that the operator cannot take: the message names the numbers that clash."""


def _without_traceback(line: str) -> str:
    """The line alone, where torch raises an error of a worker again and puts that worker's traceback round it."""
    if not line.startswith("Caught ") or "\nOriginal Traceback" not in line:
        return line
    return line.rstrip().splitlines()[-1].partition(": ")[2]


def _as_one_line(line: str) -> str:
    """Without what would break the line or command a terminal, which may come from any file; the middle of a long one
    is left out.
    """
    line = printable(line)
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def printable(text: str) -> str:
    """Text of any file, in which nothing commands a terminal: a sign that does is written out, as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """Build the error for a name that is not in a list: the nearest known name, then the known ones, of many the near.

    Example: unknown variant 'acmx'; did you mean 'acmix'? (known: acmix, ...)
    """
    names = sorted(set(known))
    nearest = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{nearest[0]}'?" if nearest else ""
    place = f"{where}: " if where else ""
    told, near = a_few(names), difflib.get_close_matches(name, names, n=NEAR_NAMES, cutoff=0.4)
    if near and len(names) > MOST_NAMES:
        told = f"{', '.join(near)} and {len(names) - len(near)} more"
    if len(names) > MOST_NAMES and what in LISTED:
        told += "; acmix-bench list shows all"
    return UserError(f"{place}unknown {what} '{name}'{guess} (known: {told or 'none'})")


def a_few(names: Sequence[str]) -> str:
    """Names on one line, a few of many."""
    return ", ".join(names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"])
