"""Errors that a user can mend: one line that says what, where, and the known names or the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

# Why a version has no samples where the one that it was to be timed in turns with has failed.
WAITED_IN_VAIN = "the other version did not come to be timed in turns"
MOST_NAMES = 10  # of those that an error lists


class UserError(Exception):
    """A user's mistake. The command line prints its one line and exits with code 2."""


class Interrupted(Exception):
    """Ctrl-C, with a line on what is kept. The command line prints it and exits with code 130."""


class ShapeError(UserError, ValueError):
    """A size that the operator cannot take: the message names the numbers that clash."""


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """Build the error for a name that is not in a list: the nearest known name, then the known ones, a few of many."""
    names = sorted(set(known))
    nearest = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{nearest[0]}'?" if nearest else ""
    place = f"{where}: " if where else ""
    return UserError(f"{place}unknown {what} '{name}'{guess} (known: {a_few(names)})")


def a_few(names: Sequence[str]) -> str:
    """Names on one line, a few of many."""
    return ", ".join(names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"])
