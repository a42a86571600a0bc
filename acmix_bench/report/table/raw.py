"""A run's numbers with every digit."""

from __future__ import annotations

import csv
import io
from typing import Any

from acmix_bench import meters
from acmix_bench.analysis.compare import Comparison, Line
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate


def to_csv(comparison: Comparison) -> str:
    """One line a row, every digit, units in the header."""
    file = io.StringIO()
    records = [numbers_of(line, comparison.run.plan.experiment.meters) for line in comparison.lines]
    header = list(dict.fromkeys(key for record in records for key in record))
    writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def numbers_of(line: Line, names: tuple[str, ...]) -> dict[str, Any]:
    """A row's numbers, each under a name of its own, with every digit: a line of the CSV, or an object for a script.

    Args:
        names: the meters of the run, in whose order the numbers stand: first counts, then estimates, then what belongs
            to each timing.
    """
    found: dict[str, Any] = {
        "variant": line.row.label,
        "backbone": line.row.case.backbone,
        "image_size": line.row.case.image_size,
    }
    for name in names:
        listed = [metric for metric in meters.find(name).metrics if metric.listed]
        for metric in listed if name in line.counts else ():
            for key, number in metric.numbers(line.counts[name]).items():
                column = key.replace(" ", "_")
                found[f"{short(name)}_{column}" if column in found else column] = number
    estimates: dict[str, Estimate | None] = {}
    timings = {short(name): timing for name, timing in line.timings.items()}
    for name, timing in timings.items():
        estimates |= {f"{name}_images_per_s": timing.rate, f"{name}_ratio": timing.speedup}
    for name, score in ((short(name), score) for name, score in line.scores.items()):
        estimates |= {name: score.mean, f"{name}_difference": score.difference}
    for name, estimate in estimates.items():
        if estimate is not None:
            found |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            found[f"{name}_samples"] = estimate.samples
    for name, timing in timings.items():
        found |= {f"{name}_peak_bytes": timing.peak_bytes, f"{name}_of_matmul": timing.efficiency}
        found[f"{name}_noise_floor"] = timing.noise_floor
        found |= {f"{name}_first_seconds": timing.first_seconds, f"{name}_batch": timing.batch}
    return found | {"not_measured": line.missing, "problems": "; ".join(line.problems)}
