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


@pytest.mark.parametrize("samples", [[1.0, 1.1], [0.9, 1.2, 1.05, 1.01]])
def test_ratio_is_the_t_interval_of_logarithms(samples: list[float]) -> None:
    estimate, logs = stats.ratio(samples), [math.log(sample) for sample in samples]
    interval = scipy_stats.t.interval(0.95, len(logs) - 1, loc=sum(logs) / len(logs), scale=scipy_stats.sem(logs))
    assert estimate.value == pytest.approx(scipy_stats.gmean(samples))
    assert (estimate.low, estimate.high) == pytest.approx(tuple(map(math.exp, interval)))
    assert stats.ratio([1 / sample for sample in samples]).low == pytest.approx(1 / estimate.high)


def test_ratio_covers_what_it_claims() -> None:
    source, covered, runs = random.Random(1), 0, 4000
    for _ in range(runs):
        estimate = stats.ratio([1.05 * source.lognormvariate(0, 0.02) for _ in range(10)])
        covered += estimate.low <= 1.05 <= estimate.high
    assert abs(covered / runs - 0.95) < 0.02


def test_the_noise_floor_is_how_far_an_interval_extends_by_noise_alone() -> None:
    """Of ratios that are truly 1, the mean of so many lies within the noise floor as often as is claimed."""
    source, within, runs = random.Random(2), 0, 4000
    for _ in range(runs):
        same = [source.lognormvariate(0, 0.03) for _ in range(10)]
        mean = sum(source.gauss(0, 0.03) for _ in range(10)) / 10
        within += abs(mean) <= stats.noise_floor(same, count=10)
    assert abs(within / runs - 0.95) < 0.02
    assert stats.noise_floor([1.1], count=5) == math.inf


def test_the_farther_end_of_an_interval() -> None:
    assert stats.farthest_from_one(stats.Estimate(value=1.0, low=0.9, high=1.05, samples=5)) == pytest.approx(
        -math.log(0.9)
    )
    assert stats.farthest_from_one(stats.Estimate(value=1.0, low=None, high=None, samples=1)) is None


@pytest.mark.parametrize(("spread", "difference"), [(0.01, 0.01), (0.01, 0.005), (0.02, 0.03)])
def test_planned_seeds_have_the_power_that_they_promise(spread: float, difference: float) -> None:
    count = stats.samples_to_detect(spread, difference)
    assert count is not None
    source, found, runs = random.Random(3), 0, 3000
    for _ in range(runs):
        estimate = stats.mean([source.gauss(difference, spread) for _ in range(count)])
        found += estimate.low > 0
    assert 0.76 < found / runs < 0.92
    assert stats.samples_to_detect(spread, difference * 2) <= count
    assert stats.samples_to_detect(1.0, 1e-6) is None
