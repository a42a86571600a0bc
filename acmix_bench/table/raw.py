"""A run's numbers with every digit."""

from __future__ import annotations

import csv
import io
from typing import Any

from acmix_bench.compare import PASSES, Comparison, Line, Timing
from acmix_bench.stats import Estimate

LEDGER = (
    *("ledger", "macs_executed", "macs_backward", "flop_counter_backward"),
    *("activations", "activation_bytes", "parameter_bytes"),
)


def to_csv(comparison: Comparison) -> str:
    """One line a row, every digit, units in the header."""
    file = io.StringIO()
    records = [flat(line) for line in comparison.lines]
    header = list(dict.fromkeys(key for record in records for key in record))
    writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def flat(line: Line) -> dict[str, Any]:
    """A row's numbers under flat names, with every digit: a line of the CSV, or an object for a script."""
    flat: dict[str, Any] = {
        "variant": line.row.label,
        "backbone": line.row.case.backbone,
        "image_size": line.row.case.image_size,
    }
    for key in ("parameters", "macs", "fvcore", "flop_counter", *LEDGER):
        if key in line.exact:
            flat[key] = line.exact[key]
    flat |= {f"macs_{stage}": macs for stage, macs in line.exact.get("macs_by_stage", {}).items()}
    estimates: dict[str, Estimate | None] = {}
    for meter in PASSES:
        timing: Timing | None = getattr(line, meter)
        if timing:
            estimates |= {f"{meter}_images_per_s": timing.rate, f"{meter}_ratio": timing.ratio}
    estimates |= {"accuracy": line.accuracy, "accuracy_difference": line.accuracy_difference}
    for name, estimate in estimates.items():
        if estimate is not None:
            flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            flat[f"{name}_samples"] = estimate.samples
    for meter in PASSES:
        if timing := getattr(line, meter):
            flat |= {f"{meter}_peak_bytes": timing.peak_bytes, f"{meter}_of_product": timing.share}
            flat[f"{meter}_noise_floor"] = timing.floor
            flat |= {f"{meter}_first_seconds": timing.first_seconds, f"{meter}_batch": timing.batch}
    return flat | {"not_measured": line.missing, "problems": "; ".join(line.problems)}
