"""Every column that a table of a run can have, by the name that its number has in the CSV, and the choice of some."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from acmix_bench import meters
from acmix_bench.analysis.compare import Line, Timing, scores_of
from acmix_bench.analysis.on_gpu import OnGpu
from acmix_bench.analysis.published import figures_of
from acmix_bench.errors import UserError, unknown
from acmix_bench.ops.cost import STAGES
from acmix_bench.report import rounding
from acmix_bench.report.table.cost import STAGE_TITLES, macs
from acmix_bench.spec.experiment import Experiment
from acmix_bench.spec.meter import Meter, Metric, short

ALL = "all"  # in place of names: every table, as where nobody chooses


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its header, and what a row shows in it.

    Attributes:
        meter: whose number it is, where it has one meter.
        ranks: whether its best row is the meter's.
        notes: the table whose notes say how it is read.
    """

    title: str
    show: Callable[[Line], str]
    meter: str = ""
    ranks: bool = False
    notes: Literal["main", "speed", "published"] = "main"


def chosen(experiment: Experiment, told: Sequence[str], *, where: str) -> dict[str, Column]:
    """The columns that somebody chose, each NAME or NAME=title, under their names and in their order; none for `all`.

    Raises:
        UserError: for a name that is no column of this experiment, or one that stands twice.
    """
    if list(told) in ([], [ALL]):
        return {}
    known, found = {"variant": VARIANT} | catalogue(experiment), dict[str, Column]()
    for one in told:
        name, equals, title = map(str.strip, one.partition("="))
        if name not in known:
            raise unknown("column", name, known, where=where)
        if name in found:
            raise UserError(f"{where}: column {name} stands twice")
        if equals and not title:
            raise UserError(f"{where}: {name}=: write its title behind it, or leave the sign out")
        found[name] = replace(known[name], title=title) if title else known[name]
    return {"variant": VARIANT} | found


def split(text: str) -> tuple[str, ...]:
    """What `--columns` takes, as a list: parted by commas, but for those between quotation marks.

    Raises:
        UserError: where a quotation is not closed, or nothing stands there.
    """
    parts = shlex.shlex(text, posix=True)
    parts.whitespace, parts.whitespace_split, parts.quotes, parts.escape, parts.commenters = ",", True, '"', "", ""
    try:
        found = tuple(filter(None, map(str.strip, parts)))
    except ValueError as error:
        raise UserError(f"--columns {text}: a quotation mark is not closed") from error
    if not found:
        raise UserError("--columns: write names joined by commas, or all")
    return found


def catalogue(experiment: Experiment) -> dict[str, Column]:
    """The columns that the meters of an experiment fill, in their order; then those of the papers."""
    found: dict[str, Column] = {}
    for name in experiment.meters:
        meter, called = meters.find(name), short(name)
        if meter.is_speed:
            found |= _of_timing(name)
        elif meter.repeats == "seeds":
            for key, metric in scores_of(name).items():
                found[short(key)] = score(key, metric, experiment.protocol.seeds, name)
                found[f"{short(key)}_difference"] = difference(key, metric, experiment.protocol.seeds, name)
        elif not meter.is_timing:
            for key, column in _of_count(name, meter).items():
                found[f"{called}_{key}" if key in found else key] = column
    if {"params", "macs"} <= set(experiment.meters):
        found |= _PUBLISHED
    return found


def _of_timing(meter: str) -> dict[str, Column]:
    def column(title: str, show: Callable[[Timing], str], *, ranks: bool = False) -> Column:
        def told(line: Line) -> str:
            timing = line.timings.get(meter)
            return show(timing) if timing else line.failed(meter) or ""

        return Column(title=f"{called}\n{title}", show=told, meter=meter, ranks=ranks, notes="speed")

    def of_gpu(title: str, show: Callable[[OnGpu], str]) -> Column:
        return column(title, lambda timing: show(timing.gpu) if timing.gpu else "")

    called = short(meter)
    return {
        f"{called}_images_per_s": rate(meter),
        f"{called}_ratio": column("× baseline", lambda t: rounding.ratio(t.speedup, t.noise_floor or 0.0), ranks=True),
        f"{called}_peak_bytes": column("peak MiB", lambda t: rounding.mebibytes(t.peak_bytes)),
        f"{called}_reserved_bytes": of_gpu("reserved MiB", lambda gpu: rounding.mebibytes(gpu.reserved_bytes)),
        f"{called}_host_share": of_gpu("host's share", lambda gpu: rounding.whole_percent(gpu.host_share)),
        f"{called}_of_matmul": column("efficiency", lambda t: rounding.whole_percent(t.efficiency)),
        f"{called}_first_seconds": column("first step s", lambda t: rounding.seconds(t.first_seconds)),
        f"{called}_batch": column("batch", lambda t: str(t.batch)),
    }


def _of_count(name: str, meter: Meter) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for metric in (metric for metric in meter.metrics if metric.listed):
        if metric.key == "macs_by_stage":
            found |= {f"macs_{stage}": _stage(stage) for stage in STAGES}
        elif not metric.parts:
            found[metric.key] = count(name, metric)
    return found


def _stage(stage: str) -> Column:
    def show(line: Line) -> str:
        stages = line.counts.get("macs", {}).get("macs_by_stage", {})
        return rounding.count(stages.get(stage)) or line.failed("macs") or ""

    return Column(title=STAGE_TITLES[stage], show=show, meter="macs")


def count(meter: str, metric: Metric) -> Column:
    """A number without noise."""
    title = metric.title or metric.key.replace("_", " ")
    if meter == "macs" and metric.key == "macs":
        return Column(title=title, show=macs, meter=meter)

    def show(line: Line) -> str:
        numbers = metric.numbers(line.counts.get(meter, {})).values()
        return rounding.number(sum(numbers), metric.unit) if numbers else line.failed(meter) or ""

    return Column(title=title, show=show, meter=meter)


def rate(meter: str) -> Column:
    """Images a second with their interval."""

    def show(line: Line) -> str:
        timing = line.timings.get(meter)
        return rounding.rate(timing.rate) if timing else line.failed(meter) or ""

    return Column(title=f"{short(meter)}\nimg/s", show=show, meter=meter, ranks=True)


def score(key: str, metric: Metric, seeds: int, meter: str) -> Column:
    """A score of a meter, and how many of the seeds it stands for where some failed."""

    def show(line: Line) -> str:
        score = line.scores.get(key)
        if score is None:
            return line.failed(meter) or ""
        some = "" if score.mean.samples == seeds else f" ({score.mean.samples} of {seeds} seeds)"
        return rounding.score(score.mean, metric.unit) + some

    title = metric.title or short(meter)
    title = f"{title} %" if metric.unit == "percent" else title
    return Column(title=title, show=show, meter=meter, ranks=key == meter)


def difference(key: str, metric: Metric, seeds: int, meter: str) -> Column:
    """A score's difference to the baseline's."""

    def show(line: Line) -> str:
        score = line.scores.get(key)
        return rounding.difference(score.difference, seeds, metric.unit) if score else ""

    return Column(title=f"Δ {metric.title or short(key)}", show=show, meter=meter)


def _figure(kind: str, field: str, title: str) -> Column:
    """What is known of a row's model from elsewhere; of what is counted here too, by how much ours differs from it."""

    def show(line: Line) -> str:
        figure = figures_of(line.row).get(kind)
        theirs = getattr(figure, field) if figure else None
        parameters, multiply_adds = line.count("params", "parameters"), line.count("macs", "macs")
        ours = {"params_m": (parameters, 1e6), "macs_g": (multiply_adds, 1e9)}.get(field)
        if theirs is None or ours is None or ours[0] is None:
            return "" if theirs is None else f"{theirs:g}"
        return rounding.published(ours[0] / ours[1], theirs, exact=kind == "counted" and field == "params_m")

    return Column(title=title, show=show, notes="published")


VARIANT = Column(title="variant", show=lambda line: line.row.label)
_PUBLISHED = {
    "published_params": _figure("published", "params_m", "params M\nprinted"),
    "published_macs": _figure("published", "macs_g", "MACs G\nprinted"),
    "published_top1": _figure("published", "top1", "top-1 %\nprinted"),
    "released_params": _figure("counted", "params_m", "params M\nreleased"),
    "released_macs": _figure("counted", "macs_g", "MACs G\nreleased"),
}
