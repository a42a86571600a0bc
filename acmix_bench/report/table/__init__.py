"""Tables as terminal text, Markdown, LaTeX or CSV. `rounding` rounds; the CSV has every digit."""

from __future__ import annotations

from dataclasses import replace

from acmix_bench import meters
from acmix_bench.analysis.compare import Comparison
from acmix_bench.analysis.published import figures_of
from acmix_bench.report.table.cost import cost_table, counter_table, ledger_table
from acmix_bench.report.table.grid import Table
from acmix_bench.report.table.main import main_table, mix_table
from acmix_bench.report.table.published import published_table
from acmix_bench.report.table.speed import speed_table


def render(comparison: Comparison, style: str) -> str:
    """Every table, one after the other, as `text`, `md` or `tex`."""
    return "\n".join(table.render(style) for table in tables(comparison))


def tables(comparison: Comparison) -> list[Table]:
    """Every table that the run's meters fill: first what decides, then what explains it."""
    return [*decisive(comparison), *explaining(comparison)]


def decisive(comparison: Comparison) -> list[Table]:
    """What the question of a run is answered from: the main table, speed, and the published figures."""
    names = comparison.run.plan.experiment.meters
    made = []
    if any(meter.is_speed or meter.metrics for meter in map(meters.find, names)):
        made.append(main_table(comparison))
    if comparison.speed_meters:
        made.append(speed_table(comparison))
    for other in comparison.others:
        apart = f"{', '.join(other.run.plan.merged)}: timed apart, not to be compared with the timings above"
        made += [replace(main_table(other), title=apart), speed_table(other)]
    if any(figures_of(line.row) for line in comparison.lines) and {"params", "macs"} <= set(names):
        made.append(published_table(comparison))
    return made


def explaining(comparison: Comparison) -> list[Table]:
    """Where the numbers come from: the learned mix, and the costs."""
    made = [mix_table(comparison)] if any(line.mixing_weights for line in comparison.lines) else []
    if "macs" in comparison.run.plan.experiment.meters:
        made += [cost_table(comparison), ledger_table(comparison), counter_table(comparison)]
    return made
