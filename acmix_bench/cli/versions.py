"""Commands that take several runs or versions: compare, merge, regress, and serve, which regress drives."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import ExperimentOption, JsonOption, ResultsOption, SetOption, note
from acmix_bench.errors import UserError
from acmix_bench.spec import library

if TYPE_CHECKING:
    from acmix_bench.runs.record import Run

ThresholdsOption = Annotated[
    Path | None, typer.Option("--thresholds", help="YAML: how much slower is a regression, by meter and row.")
]


def compare_runs(
    base: Annotated[
        str, typer.Argument(help="A run's folder, or its name below the results folder.", autocompletion=complete.runs)
    ],
    head: Annotated[str, typer.Argument(help="The run that must not be worse.", autocompletion=complete.runs)],
    thresholds: ThresholdsOption = None,
    allow_unlike: Annotated[
        bool, typer.Option("--allow-unlike", help="Compare the timings of unlike environments, and mark them.")
    ] = False,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: what is exact to the last unit, timings as far as their noise allows.

    Exit codes: 0 no regression, 3 a regression, 4 timings of unlike environments, 5 nothing to compare.

    \b
    Examples:
      acmix-bench compare results/yesterday results/today
      acmix-bench compare base head --thresholds mine.yaml
    """
    from acmix_bench.runs.store import load_run

    raise typer.Exit(
        _gate(load_run(base, results), load_run(head, results), thresholds, allow_unlike=allow_unlike, as_json=as_json)
    )


def merge(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Folders of runs, or names below the results.", autocompletion=complete.runs
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Make one run of those of several machines or seeds: scores are pooled, timings stay apart.

    What two runs have is told, and stands once. Timings of different runs are never in one comparison.

    \b
    Examples:
      acmix-bench ablate -e paths --set first_seed=5 --results elsewhere
      acmix-bench merge results/paths elsewhere/paths --out results/paths-of-two
    """
    from acmix_bench.analysis.compare import compare
    from acmix_bench.cli.terminal import show
    from acmix_bench.report.kept import write_tables
    from acmix_bench.report.table import decisive
    from acmix_bench.runs.merge import merge as merged
    from acmix_bench.runs.store import Store, load_run

    if len(runs) < 2:
        raise UserError("merge takes two runs or more")
    run, notes = merged([(name, load_run(name, results)) for name in runs])
    store, comparison = Store(out), compare(run)
    store.keep(run)
    write_tables(store, comparison)
    show(decisive(comparison))
    for line in notes:
        note(line)
    print(f"Records and tables: {out}/")


def regress(
    base: Annotated[
        Path, typer.Option("--base", help="The Python of an environment with the version to compare with.")
    ],
    experiment: ExperimentOption = "regress",
    budget: Annotated[float, typer.Option("--budget", help="Seconds after which it stops, after 8 pairs.")] = 120.0,
    settings: SetOption = None,
    thresholds: ThresholdsOption = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Measure another version of this package and this one alternately, and compare them.

    `nox -s regress -- --base REF` makes the other version's environment from a git reference. Exit codes as compare's.

    Example: acmix-bench regress --base .nox/base/venv/bin/python
    """
    from acmix_bench import ablate as flow
    from acmix_bench import regress as sides
    from acmix_bench.analysis.thresholds import load_thresholds

    chosen = library.with_settings(library.load_experiment(experiment), settings or [])
    # A mistake in them is told before anything is measured.
    load_thresholds(thresholds, [row.label for row in flow.rows_of(chosen)])
    folder = results / "regress"
    for name in ("base", "head"):
        shutil.rmtree(folder / name, ignore_errors=True)
    arguments = (experiment, settings or [])
    with (
        sides.served("base", base, *arguments, folder / "base") as old,
        sides.served("head", Path(sys.executable), *arguments, folder / "head") as new,
    ):
        ended = sides.measure(old, new, budget, chosen.protocol.precision)
        runs = old.store.load(), new.store.load()
    note(f"stopped for {ended}; records: {folder}/")
    raise typer.Exit(_gate(*runs, thresholds, allow_unlike=False, as_json=as_json, report=folder / "report.json"))


def serve(
    experiment: Annotated[str, typer.Argument()],
    folder: Annotated[Path, typer.Option("--folder")],
    settings: SetOption = None,
) -> None:
    """Measure an experiment's groups of cells as their numbers come on stdin: what regress drives."""
    from acmix_bench import ablate as flow
    from acmix_bench import regress as sides
    from acmix_bench.meters.turns import Turns
    from acmix_bench.runs.store import Store
    from acmix_bench.spec.cell import groups_of

    chosen = library.with_settings(library.load_experiment(experiment), settings or [])
    plan = flow.plan_of(chosen, flow.rows_of(chosen))
    print(*(group[0].repeat for group in groups_of(plan.cells)), flush=True)

    def asked(line: str) -> tuple[int, Turns]:
        """A group's number, where to meet the other version, and which of them begins."""
        number, _, rest = line.strip().partition(" ")
        path, _, order = rest.rpartition(" ")  # which may hold blanks
        return int(number), Turns(path=Path(path), first=order == "first")

    for number in sides.serve(plan, Store(folder), map(asked, sys.stdin)):
        print(number, flush=True)


def _gate(
    base: Run, head: Run, thresholds: Path | None, *, allow_unlike: bool, as_json: bool, report: Path | None = None
) -> int:
    """Print what two runs differ by, and give the exit code that goes with it."""
    from acmix_bench.analysis import gate
    from acmix_bench.analysis.thresholds import labels_of, load_thresholds
    from acmix_bench.cli.terminal import show
    from acmix_bench.report.table.decide import gate_table

    limits, differences = load_thresholds(thresholds, labels_of(base, head)), gate.unlike(base, head)
    found = gate.findings(base, head, limits, timings=allow_unlike or not differences)
    code = gate.exit_code(found, differences, allowed=allow_unlike)
    alone = gate.not_compared(base, head)
    told = {"exit_code": code, "unlike": differences, "not_compared": alone}
    text = json.dumps(told | {"findings": [asdict(finding) for finding in found]}, indent=1)
    if report:
        report.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        show([gate_table(found, differences, alone)])
    if differences and not allow_unlike:
        note("error: timings are not comparable: " + "; ".join(differences) + " differ (--allow-unlike does it)")
    if code == 5:
        note("error: nothing was measured that both runs have")
    for finding in found:
        if finding.verdict == "regression":
            note(f"regression: {finding.label}: {finding.metric} {finding.note}".rstrip())
    return code
