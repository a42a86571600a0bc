"""Estimates with intervals. Pure functions on raw samples; nothing here rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

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


def mean(samples: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The mean with Student's t interval."""
    count, centre = len(samples), fmean(samples)
    if count < 2:
        return Estimate(value=centre, low=None, high=None, samples=count)
    margin = float(stdtrit(count - 1, (1 + confidence) / 2)) * stdev(samples) / math.sqrt(count)
    return Estimate(value=centre, low=centre - margin, high=centre + margin, samples=count)


def geometric_mean(samples: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The geometric mean of positive samples, with Student's t interval of their logarithms: for rates and ratios."""
    logs = mean([math.log(sample) for sample in samples], confidence=confidence)
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Estimate(value=math.exp(logs.value), low=low, high=high, samples=logs.samples)


def simultaneous(comparisons: int, *, confidence: float = CONFIDENCE) -> float:
    """The confidence that each of several intervals needs for all of them to hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, comparisons)
