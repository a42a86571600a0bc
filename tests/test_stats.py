"""Intervals against scipy, and against what they promise."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats as scipy_stats

from acmix_bench import stats


@pytest.mark.parametrize("samples", [[1.0, 2.0], [3.0, 5.0, 4.0, 9.0], [0.1] * 3])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_mean_has_the_t_interval(samples: list[float], confidence: float) -> None:
    estimate = stats.mean(samples, confidence=confidence)
    error = scipy_stats.sem(samples)
    margin = scipy_stats.t.ppf((1 + confidence) / 2, len(samples) - 1) * error
    assert estimate.value == pytest.approx(sum(samples) / len(samples))
    assert estimate.margin == pytest.approx(margin, abs=1e-12)


def test_one_sample_has_no_interval() -> None:
    estimate = stats.mean([2.0])
    assert (estimate.value, estimate.low, estimate.high, estimate.margin) == (2.0, None, None, None)


@pytest.mark.parametrize("count", [6, 7, 10, 15, 40])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_median_has_the_interval_of_the_sign_test(count: int, confidence: float) -> None:
    """The narrowest pair of samples whose binomial coverage is enough."""
    estimate = stats.median([float(i) for i in range(count)], confidence=confidence)
    coverage = [1 - 2 * scipy_stats.binom.cdf(outside - 1, count, 0.5) for outside in range(1, count // 2 + 1)]
    enough = [outside for outside, covered in enumerate(coverage, 1) if covered >= confidence]
    assert estimate.value == (count - 1) / 2
    assert (estimate.low, estimate.high) == ((max(enough) - 1, count - max(enough)) if enough else (None, None))


def test_median_of_few_samples_has_no_interval() -> None:
    assert stats.median([3.0, 1.0, 2.0]) == stats.Estimate(value=2.0, low=None, high=None, samples=3)


def test_median_does_not_mind_an_outlier() -> None:
    quiet = [1.0 + 0.01 * i for i in range(15)]
    disturbed = [*quiet[:-1], 1000.0]
    assert stats.median(disturbed).value == stats.median(quiet).value
    assert stats.median(disturbed).high == stats.median(quiet).high


def test_intervals_cover_what_they_claim() -> None:
    source = random.Random(0)
    runs, covered, jointly, medians = 4000, 0, 0, 0
    for _ in range(runs):
        several = [
            stats.mean([source.gauss(0, 1) for _ in range(5)], confidence=stats.simultaneous(5)) for _ in range(5)
        ]
        jointly += all(e.low <= 0 <= e.high for e in several)
        skewed = stats.median([source.expovariate(1) for _ in range(15)])
        medians += skewed.low <= math.log(2) <= skewed.high
        single = stats.mean([source.gauss(0, 1) for _ in range(5)])
        covered += single.low <= 0 <= single.high
    assert abs(covered / runs - 0.95) < 0.02
    assert jointly / runs > 0.93
    exact = 1 - 2 * scipy_stats.binom.cdf(3, 15, 0.5)
    assert abs(medians / runs - exact) < 0.02
    assert exact >= 0.95
    assert math.isclose(stats.simultaneous(5), 0.99)
