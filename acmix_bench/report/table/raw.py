"""A run's numbers with every digit."""

from __future__ import annotations

from typing import Any

from acmix_bench import meters
from acmix_bench.analysis.compare import Line
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate


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
        if timing.gpu:
            found |= {f"{name}_reserved_bytes": timing.gpu.reserved_bytes, f"{name}_host_share": timing.gpu.host_share}
        found |= {f"{name}_first_seconds": timing.first_seconds, f"{name}_batch": timing.batch}
    statuses = dict.fromkeys(record.status for record in line.failures)
    found["status"] = "withheld" if line.withheld else ", ".join(statuses) or ("not measured" if line.missing else "ok")
    return found | {"not_measured": line.missing, "problems": "; ".join(line.problems)}
