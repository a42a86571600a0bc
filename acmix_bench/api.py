"""What a script or a notebook calls: `load`, `run`, `flops` and `throughput`, whose results are pandas data frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acmix_bench import ablate as flow
from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.errors import UserError
from acmix_bench.report.table import render
from acmix_bench.runs.store import Store, load_run
from acmix_bench.spec import library

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True, repr=False)
class Results:
    """A run that was measured: its data frames and tables, which are what a notebook shows of it."""

    comparison: Comparison

    def frame(self) -> DataFrame:
        """A row of the tables a line, with every estimate, interval and status: see `report.frame.frame_of`."""
        from acmix_bench.report.frame import frame_of

        return frame_of(self.comparison)

    def samples(self) -> DataFrame:
        """A raw sample of a timing a line: see `report.frame.samples_of`."""
        from acmix_bench.report.frame import samples_of

        return samples_of(self.comparison.run)

    def render(self, style: str = "text", columns: Sequence[str] | None = None) -> str:
        """The tables as `text`, `md` or `tex`; or one with these columns, each NAME or NAME=title."""
        return render(self.comparison, style, columns)

    def __repr__(self) -> str:
        return self.render()


def load(run: str | Path, results: str | Path = "results") -> Results:
    """A run by its folder, or by its name below the results folder.

    Raises:
        UserError: where there is none.
    """
    return Results(comparison=compare(load_run(run, Path(results))))


def run(
    experiment: str | Path = "custom",
    *,
    variants: Sequence[str] = (),
    results: str | Path = "results",
    **settings: Any,
) -> Results:
    """Measure an experiment as `acmix-bench ablate` does, with progress, and keep its records.

    What was measured before is not measured again; interrupting it keeps what is done.

    Args:
        experiment: a name, or a YAML file.
        variants: more rows, as --variant takes them: "shift=tensor", a name, a YAML file.
        results: the folder of results.
        settings: keys of --set, as epochs=5 or meters=["params", "macs"].

    Raises:
        UserError: for a name or a value that is not known, or a row that cannot be.
    """
    chosen = library.with_settings(library.load_experiment(str(experiment)), as_settings(settings))
    rows = flow.rows_of(chosen, list(variants))
    asked = {row.label for row in rows} - {row.label for row in flow.rows_of(chosen)} if variants else set()
    store, file = Store(Path(results) / chosen.name), library.own_file("experiment", str(experiment))
    finished = flow.ablate(flow.plan_of(chosen, rows), store, insisted=asked, file=file)
    if finished.interrupted:
        raise KeyboardInterrupt("what is finished is kept; the same call goes on from here")
    return Results(comparison=finished.comparison)


def flops(*models: str, variants: Sequence[str] = (), input: Sequence[int] = (), **settings: Any) -> DataFrame:
    """Parameters and multiply-adds of models, or of variants on the nano backbone: see `report.frame.frame_of`.

    Args:
        input: the sizes of the input, without the batch, of torch modules of your own: "package.module:Class".

    Example: flops("resnet50", "resnet50-acmix")[["variant", "parameters", "macs"]]

    Raises:
        UserError: for a name that is not known, or sizes that cannot be.
    """
    return Results(comparison=flow.measure_named("flops", models, variants, as_settings(settings), input)).frame()


def throughput(*models: str, variants: Sequence[str] = (), **settings: Any) -> DataFrame:
    """Images a second and peak memory, forward and training; models alternate: see `report.frame.frame_of`.

    Example: throughput("nano", "nano-acmix", batch=8, processes=12)

    Raises:
        UserError: for a name that is not known, or sizes that cannot be.
    """
    return Results(comparison=flow.measure_named("throughput", models, variants, as_settings(settings))).frame()


def as_settings(settings: dict[str, Any]) -> list[str]:
    """Keyword arguments as --set takes them."""
    told = []
    for key, value in settings.items():
        if isinstance(value, dict) or value is None:
            raise UserError(f"{key}={value!r:.40}: a setting is a number, a text or a list of them")
        words = value if isinstance(value, list | tuple) else [value]
        told.append(f"{key}={','.join(map(str, words))}")
    return told
