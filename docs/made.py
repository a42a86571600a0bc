"""The site's pages that are made: one for each experiment, with its shown runs, and the reference, from docstrings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.experiment import Experiment

ROOT = Path(__file__).parent.parent

CONTENTS = {
    "Begin": ["docs/start", "docs/operator", "docs/ablate", "docs/own"],
    "What it shows": ["docs/experiments/index", "docs/speed", "docs/models", "docs/claims", "docs/measuring"],
    "Train": ["docs/training", "docs/data", "docs/dense", "docs/gpu", "docs/sweeps"],
    "Look up": [
        "docs/commands",
        "docs/figures",
        "docs/api",
        "results/README",
        "results/published/README",
        "examples/mixers/README",
    ],
    "Change it": ["docs/architecture", "docs/fast", "CONTRIBUTING"],
}

# What of the package is told, page by page.
REFERENCE = {
    "scripts": ("Runs and frames", ["api", "report.frame"]),
    "operators": (
        "Operators",
        [f"ops.{name}" for name in ("acmix", "window", "patchwise", "global_attention", "convolution", "mix", "plain")],
    ),
    "formulas": ("Formulas and costs", ["ops.reference", "ops.attention", "ops.cost", "ops.reflection"]),
    "own": (
        "What you bring",
        ["backbones", "heads", "data", "spec.meter", "spec.axis", "runs.launch.launcher"],
    ),
    "statistics": ("Records and statistics", ["runs.record", "runs.store", "analysis.compare", "stats", "errors"]),
}


def write(root: Path) -> None:
    """Write the pages that are made; one that would be the same is left, so that it is not built again."""
    pages = {root / f"{name}.md": text for name, text in (*_experiments(), *_reference())}
    for folder in {path.parent for path in pages}:
        folder.mkdir(parents=True, exist_ok=True)
        for old in set(folder.glob("*.md")) - set(pages):
            old.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def contents(docname: str) -> str:
    """The list of pages that ends this one, for the side of the site."""
    if docname == "README":
        return "".join(
            _toctree([page for page in pages if (ROOT / f"{page}.md").exists()], f":caption: {title}", ":hidden:")
            for title, pages in CONTENTS.items()
        )
    if docname == "docs/api":
        pages = [f"/docs/reference/{name}" for name in REFERENCE]
        return "\n## Reference\n\nFrom the docstrings of the code.\n" + _toctree(pages, ":maxdepth: 1")
    return ""


def with_links(text: str, docname: str) -> str:
    """Lead a link to an experiment's file, or to a run that is shown, to the experiment's page."""
    if docname.startswith("docs/experiments/"):
        return text
    names = "|".join(map(re.escape, _files()))
    text = re.sub(rf"\]\((?:\.\./)*experiments/({names})\.yaml\)", r"](/docs/experiments/\1.md)", text)
    return re.sub(r"\]\((?:\.\./)*results/shown/([\w-]+)(?:/table\.md)?\)", _to_the_run, text)


def _to_the_run(link: re.Match[str]) -> str:
    run = link[1]
    return f"](/docs/experiments/{_experiment_of(run).name}.md#the-run-{run})"


@cache
def _experiment_of(run: str) -> Experiment:
    """What the run was of, as its file says it today; one without a file stands under the run's name."""
    one = Store(ROOT / "results" / "shown" / run).load().plan.experiment
    _, _, named = one.command.partition("--experiment ")
    names = [name for name in (one.name, named.split()[0]) if name in _files()]
    return _files()[names[0]] if names else one.model_copy(update={"name": run})


@cache
def _files() -> dict[str, Experiment]:
    """The experiments that come along."""
    files = [named.path for named in library.known("experiment").values() if not named.is_own]
    return {path.stem: library.load_experiment(str(path)) for path in files}


def _experiments() -> Iterator[tuple[str, str]]:
    """A page for each experiment, and one that lists them."""
    shown: defaultdict[str, list[str]] = defaultdict(list)
    experiments = dict(_files())
    for plan in sorted((ROOT / "results" / "shown").glob("*/run.json")):
        one = _experiment_of(plan.parent.name)
        experiments.setdefault(one.name, one)
        shown[one.name].append(plan.parent.name)
    experiments = dict(sorted(experiments.items()))
    rows = [f"| [{name}]({name}.md) | {one.question} | {_runs(shown[name])} |" for name, one in experiments.items()]
    table = "\n".join(["| experiment | question | shown run |", "|---|---|---|", *rows])
    told = "Each is a question, the variants or models that answer it, and how they are measured."
    pages = _toctree(list(experiments), ":hidden:")
    yield "docs/experiments/index", f"# Experiments\n\n{told}\n\n{table}\n{pages}"
    for name, one in experiments.items():
        yield f"docs/experiments/{name}", "\n\n".join([*_told(one), *map(_shown, shown[name])]) + "\n"


def _runs(names: list[str]) -> str:
    return ", ".join(f"[{name}]({_experiment_of(name).name}.md#the-run-{name})" for name in names)


def _told(one: Experiment) -> list[str]:
    """What the experiment's file says."""
    facts = {"Source": one.source, "Time, on 2 cores": one.time, "Expected": one.expected}
    told = "\n".join(f"- **{key}**: {value}" for key, value in facts.items())
    path = f"experiments/{one.name}.yaml"
    file = f"All that it sets: [{path}](/{path})." if one.name in _files() else "It was run from a file of its own."
    return [f"# {one.name}", one.question, f"    {one.command}", told, file]


def _shown(run: str) -> str:
    """A run that is committed: its tables, as they were made of its records, and its figures."""
    folder = ROOT / "results" / "shown" / run
    parts = [f"## The run {run}", (folder / "table.md").read_text(encoding="utf-8").strip()]
    figures = sorted([*folder.glob("*.png"), *folder.glob("*.svg")])
    parts += [f"![{figure.stem.capitalize()} of the run {run}](/{figure.relative_to(ROOT)})" for figure in figures]
    parts += [f"All tables and figures again, from the records: `acmix-bench table results/shown/{run}`."]
    return "\n\n".join(parts)


def _reference() -> Iterator[tuple[str, str]]:
    for name, (title, modules) in REFERENCE.items():
        parts = [f"## {one}\n\n```{{eval-rst}}\n.. automodule:: acmix_bench.{one}\n```" for one in modules]
        yield f"docs/reference/{name}", "\n\n".join([f"# {title}", *parts]) + "\n"


def _toctree(pages: list[str], *options: str) -> str:
    return "\n" + "\n".join(["```{toctree}", *options, "", *pages, "```"]) + "\n"
