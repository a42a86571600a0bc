"""Numbers as they are read. The only place that rounds: no digit is finer than the noise allows."""

from __future__ import annotations

import math

from acmix_bench.stats import Estimate


def count(number: float | None) -> str:
    """A count with three significant digits and k, M or G; whole below a thousand; nothing for None."""
    if number is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{significant(number / size, 3)} {unit}"
    return str(int(number)) if number == int(number) else f"{number:.4g}"


def rate(estimate: Estimate | None) -> str:
    """A median with its interval, which need not lie evenly round it."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "" if estimate is None else significant(estimate.value, 3)
    return f"{estimate.value:.0f} [{estimate.low:.0f}, {estimate.high:.0f}]"


def score(estimate: Estimate | None, unit: str = "percent") -> str:
    """A mean with half its interval, no digit finer than the second of that; a share in percent."""
    if estimate is None or estimate.margin is None:
        return "" if estimate is None else number(estimate.value, unit)
    scale = 100 if unit == "percent" else 1
    margin, most = scale * estimate.margin, 2 if unit == "percent" else 6
    decimals = 1 if margin == 0 else max(0, min(most, 1 - math.floor(math.log10(margin) + 1e-9)))
    return f"{scale * estimate.value:.{decimals}f} ±{margin:.{decimals}f}"


def number(value: float | None, unit: str) -> str:
    """A number without noise, by its unit: `count`, `percent` or `number`; nothing for None."""
    if value is None:
        return ""
    if unit == "count":
        return count(value)
    return f"{100 * value:.1f}" if unit == "percent" else f"{value:.4g}"


def ratio(estimate: Estimate | None, noise_floor: float = 0.0) -> str:
    """A ratio with its interval, called noise where that holds 1 or comes closer to it than the noise floor.

    An interval that reaches to a hundred times the ratio says nothing but how few samples there are.
    """
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None or estimate.margin is None:
        return f"{estimate.value:.2f} (no interval)"
    verdict = " noise" if estimate.low <= math.exp(noise_floor) and estimate.high >= math.exp(-noise_floor) else ""
    decimals = max(0, min(2, 1 - math.floor(math.log10(max(estimate.margin, 1e-9)))))
    if estimate.high > 100 * estimate.value:
        return f"{estimate.value:.2f} (too few samples)"
    return f"{estimate.value:.{decimals}f} [{estimate.low:.{decimals}f}, {estimate.high:.{decimals}f}]{verdict}"


def difference(estimate: Estimate | None, seeds: int, unit: str = "percent") -> str:
    """A difference, of shares in percentage points, called noise where its interval holds 0."""
    if estimate is None:
        return ""
    pairs = "" if estimate.samples == seeds else f" ({estimate.samples} of {seeds} seeds)"
    scale, margin = (100, 0.0) if unit == "percent" else (1, estimate.margin or 0.0)
    decimals = max(0, min(6, 1 - math.floor(math.log10(margin)))) if margin else 1
    if estimate.low is None or estimate.high is None:
        return f"{scale * estimate.value:+.{decimals}f} (no interval){pairs}"
    verdict = " noise" if estimate.low <= 0 <= estimate.high else ""
    return f"{scale * estimate.value:+.{decimals}f} ±{scale * (estimate.margin or 0):.{decimals}f}{verdict}{pairs}"


def whole_percent(part: float | None) -> str:
    """A share in whole percent; nothing for None."""
    return "" if part is None else f"{100 * part:.0f} %"


def milliseconds(number: float | None) -> str:
    """Seconds as milliseconds with three significant digits; nothing for None."""
    return "" if number is None else significant(1000 * number, 3)


def seconds(number: float | None) -> str:
    """Seconds with two significant digits; nothing for None."""
    return "" if number is None else significant(number, 2)


def minutes(number: float) -> str:
    """Seconds as minutes with two significant digits, or below one as whole seconds."""
    return f"{number:.0f} s" if number < 60 else f"{significant(number / 60, 2)} minutes"


def fine_percent(part: float) -> str:
    """A noise floor in percent, two significant digits."""
    return f"{significant(100 * part, 2)} %"


def mebibytes(number: float | None) -> str:
    """A count of bytes in MiB, for a column that says so; nothing for None."""
    return "" if number is None else significant(number / 2**20, 2) if number < 2**20 else f"{number / 2**20:.0f}"


def published(ours: float, theirs: float, *, exact: bool) -> str:
    """Another's figure, and by how much ours differs from it."""
    if exact and round(ours * 1e6) == round(theirs * 1e6):
        return f"{theirs:.2f} (=)"
    return f"{theirs:g} ({100 * (ours - theirs) / theirs:+.1f} %)"


def against(said: float | None, true: float | None) -> str:
    """A count, and by how much it differs from the true one; '=' where it does not; nothing for None."""
    if said is None or not true:
        return count(said)
    return f"{count(said)} (=)" if said == true else f"{count(said)} ({100 * (said - true) / true:+.1f} %)"


def several(number: int, one: str, more: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else more}"


def significant(number: float, digits: int) -> str:
    """A number with so many significant digits, and no exponent."""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(number)))) if number else 0
    return f"{number:.{decimals}f}"
