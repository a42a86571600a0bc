"""Tables as terminal text, Markdown or LaTeX. `rounding` rounds; the CSV has every digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from acmix_bench import meters
from acmix_bench.analysis.compare import Comparison
from acmix_bench.analysis.published import figures_of
from acmix_bench.report.table import latex
from acmix_bench.report.table.caption import reasons_of
from acmix_bench.report.table.columns import ALL
from acmix_bench.report.table.cost import cost_table, counter_table, ledger_table
from acmix_bench.report.table.grid import Table
from acmix_bench.report.table.main import main_table, mix_table
from acmix_bench.report.table.published import published_table
from acmix_bench.report.table.speed import speed_table


def render(
    comparison: Comparison, style: str, columns: Sequence[str] | None = None, *, standalone: bool = False
) -> str:
    """Every table, one after the other, as `text`, `md` or `tex`; `columns` as for `tables`.

    Args:
        standalone: whether LaTeX is a whole document, in place of tables to be \\input.
    """
    made = tables(comparison, columns)
    if style == "tex":
        return latex.render(made, comparison.run.plan.experiment.name, standalone=standalone)
    return "\n".join(table.render(style) for table in made)


def tables(comparison: Comparison, columns: Sequence[str] | None = None) -> list[Table]:
    """Every table that the run's meters fill: first what decides, then what explains it.

    Args:
        columns: in place of all these one table with these columns, each NAME or NAME=title; as the experiment says
            where None, and every table where it is `all`.

    Raises:
        UserError: for a column that is not known.
    """
    made = [*decisive(comparison, columns), *explaining(comparison, columns)]
    return [replace(table, reasons=table.reasons or reasons_of(comparison)) for table in made]


def decisive(comparison: Comparison, columns: Sequence[str] | None = None) -> list[Table]:
    """What the question of a run is answered from: the main table, speed, and the published figures."""
    if told := _chosen(comparison, columns):
        where = "columns" if columns is None else "--columns"
        return [main_table(comparison, told, where=where), *_apart(comparison, told)]
    names = comparison.run.plan.experiment.meters
    made = []
    if any(meter.is_speed or meter.metrics for meter in map(meters.find, names)):
        made.append(main_table(comparison))
    if comparison.speed_meters:
        made.append(speed_table(comparison))
    made += _apart(comparison)
    if any(figures_of(line.row) for line in comparison.lines) and {"params", "macs"} <= set(names):
        made.append(published_table(comparison))
    return made


def explaining(comparison: Comparison, columns: Sequence[str] | None = None) -> list[Table]:
    """Where the numbers come from: the learned mix, and the costs."""
    if _chosen(comparison, columns):
        return []
    made = [mix_table(comparison)] if any(line.mixing_weights for line in comparison.lines) else []
    if "macs" in comparison.run.plan.experiment.meters:
        made += [cost_table(comparison), ledger_table(comparison), counter_table(comparison)]
    return made


def _chosen(comparison: Comparison, columns: Sequence[str] | None) -> Sequence[str]:
    """The columns that are asked for, by somebody or else by the experiment; none where every table is."""
    told = comparison.run.plan.experiment.columns if columns is None else columns
    return () if list(told) == [ALL] else told


def _apart(comparison: Comparison, columns: Sequence[str] = ()) -> list[Table]:
    """Of a merged run, the timings that are not to be compared with the others."""
    made = []
    for other in comparison.others:
        title = f"{', '.join(other.run.plan.merged)}: timed apart, not to be compared with the timings above"
        made.append(replace(main_table(other, columns), title=title))
        if not columns:
            made.append(speed_table(other))
    return made
