"""What a printed table tells beside its numbers: under which conditions they hold, and what its bold means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from acmix_bench import meters
from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import a_few
from acmix_bench.report import rounding
from acmix_bench.report.table.on_gpu import setting_of


def conditions_of(comparison: Comparison, names: Sequence[str]) -> str:
    """Of these meters the protocol and the seeds, and the machine: what a caption tells."""
    plan = comparison.run.plan
    protocol, found = plan.experiment.protocol, [meters.find(name) for name in names if name]
    told = []
    if any(meter.is_timing for meter in found):
        processes = rounding.several(protocol.processes, "process", "processes")
        threads = rounding.several(protocol.threads or 0, "thread", "threads")
        told.append(f"{processes}, batch {protocol.batch}, {protocol.dtype}, {threads}{setting_of(comparison)}.")
    if scores := [meter for meter in found if meter.repeats == "seeds"]:
        epochs = rounding.several(protocol.epochs, "epoch", "epochs")
        trained = f"{comparison.lines[0].row.case.data}, {epochs}, " if any("epochs" in m.reads for m in scores) else ""
        seeds = rounding.several(protocol.seeds, "seed", "seeds")
        told.append(f"{trained[:1].upper()}{trained[1:]}{seeds}.")
    environment = plan.environment
    machine = f"{environment.cpu}, {rounding.several(environment.cores, 'core', 'cores')}"
    machine += f", {environment.gpu}" * bool(environment.gpu)
    return " ".join([*told, f"Measured on {machine}."])


def ties_of(ranking: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """What bold means, and in which column no row has it; nothing where no row is held against another.

    Args:
        ranking: by the title of a column, of each case the row that looks best and those that it does not beat.
    """
    if not any(ranking.values()):
        return []
    told = ["Bold: the best of its column beyond doubt; the intervals of all pairs of rows hold together at 95 %."]
    for title, cases in ranking.items():
        tied = "; ".join(a_few(rows) for rows in cases if len(rows) > 1)
        if tied:
            told.append(f"No row is best beyond doubt in {' '.join(title.split())}: tied are {tied}.")
    return told


def reasons_of(comparison: Comparison) -> dict[str, str]:
    """What went wrong in each row where anything did, by its label."""
    return {line.row.label: "; ".join(line.problems) for line in comparison.lines if line.problems}
