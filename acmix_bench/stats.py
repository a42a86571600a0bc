"""Estimates with intervals. Pure functions on raw samples; nothing here rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its interval; `low` and `high` are None where one sample cannot tell."""

    value: float
    low: float | None
    high: float | None
    samples: int

    @property
    def margin(self) -> float | None:
        """Half the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def student(freedom: int, share: float) -> float:
    """The quantile of Student's t distribution below which this share of it lies."""
    from scipy.special import stdtrit  # a quarter of a second, which what only counts need not wait for

    return float(stdtrit(freedom, share))


def mean(samples: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The mean with Student's t interval."""
    count, centre = len(samples), fmean(samples)
    if count < 2:
        return Estimate(value=centre, low=None, high=None, samples=count)
    margin = student(count - 1, (1 + confidence) / 2) * stdev(samples) / math.sqrt(count)
    return Estimate(value=centre, low=centre - margin, high=centre + margin, samples=count)


def median(samples: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The median with the interval of the sign test: it holds for any distribution, outliers included.

    The ends are two of the samples, and the interval covers at least what is asked. Too few samples (below 6 at
    95 %) have none.
    """
    ordered, count = sorted(samples), len(samples)
    # P(fewer than `outside` samples lie below the true median), for a fair coin.
    outside, tail = 0, 0.5**count
    while tail <= (1 - confidence) / 2:
        outside += 1
        tail += math.comb(count, outside) * 0.5**count
    known = outside > 0
    return Estimate(
        value=statistics.median(ordered),
        low=ordered[outside - 1] if known else None,
        high=ordered[-outside] if known else None,
        samples=count,
    )


def ratio(samples: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The geometric mean of ratios, with Student's t interval of their logarithms."""
    logs = mean([math.log(sample) for sample in samples], confidence=confidence)
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Estimate(value=math.exp(logs.value), low=low, high=high, samples=logs.samples)


def noise_floor(ratios: Sequence[float], *, count: int, confidence: float = CONFIDENCE) -> float:
    """How far from 1, in logarithms, the interval of `count` ratios extends where nothing differs.

    Args:
        ratios: of things that do not differ, so that their true ratio is 1.
    """
    if len(ratios) < 2 or count < 2:
        return math.inf
    spread = math.sqrt(fmean(math.log(ratio) ** 2 for ratio in ratios))
    return student(len(ratios), (1 + confidence) / 2) * spread / math.sqrt(count)


def farthest_from_one(ratio: Estimate) -> float | None:
    """How far from 1, in logarithms, the farther end of a ratio's interval is: of an A/A ratio, the noise floor."""
    if ratio.low is None or ratio.high is None:
        return None
    return max(abs(math.log(ratio.low)), abs(math.log(ratio.high)))


def samples_to_detect(
    spread: float, difference: float, *, confidence: float = CONFIDENCE, power: float = 0.8
) -> int | None:
    """How many paired samples a t test needs to see a difference with this power; None for more than 100,000.

    Args:
        spread: standard deviation of the paired differences.
    """
    for count in range(2, 100_001):
        needed = student(count - 1, (1 + confidence) / 2) + student(count - 1, power)
        if needed * spread / math.sqrt(count) <= difference:
            return count
    return None


def at_least(estimate: Estimate, *, margin: float) -> Estimate:
    """Widen an interval that is narrower than what a single sample can resolve."""
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = min(estimate.low, estimate.value - margin), max(estimate.high, estimate.value + margin)
    return replace(estimate, low=low, high=high)


def simultaneous(comparisons: int, *, confidence: float = CONFIDENCE) -> float:
    """The confidence that each of several intervals needs for all of them to hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, comparisons)
