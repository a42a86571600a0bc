"""Runs as one HTML page that needs nothing else: no network, and no JavaScript but to sort and to point.

`page.html` is the template; `style.css` and `page.js` go into the page as they are. `tables`, `figures`, `samples` and
`facts` fill it.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import acmix_bench
from acmix_bench.analysis import gate
from acmix_bench.analysis.compare import compare
from acmix_bench.analysis.finding import Verdict
from acmix_bench.analysis.thresholds import Thresholds
from acmix_bench.errors import printable
from acmix_bench.report.page import facts, figures, samples
from acmix_bench.report.page.tables import MOST_ROWS, grid
from acmix_bench.report.table import decisive, explaining
from acmix_bench.report.table.decide import gate_table
from acmix_bench.runs.record import Run

# The worst first: a verdict, and what one and several of it are called.
WORDS: dict[Verdict, tuple[str, str]] = {
    "regression": ("regression", "regressions"),
    "improvement": ("improvement", "improvements"),
    "can't tell": ("that nobody can tell here", "that nobody can tell here"),
    "same": ("the same", "the same"),
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run as somebody named it, and its folder, in which pictures may lie."""

    name: str
    folder: Path
    run: Run


def render(shown: Sequence[Shown]) -> str:
    """The page of one run, or of several with what the others differ by from the first."""
    headings, script = _headings(shown), _asset("page.js")
    return _template().render(
        headings=headings,
        runs=[
            _told(one, heading, f"r{number}") for number, (one, heading) in enumerate(zip(shown, headings, strict=True))
        ],
        differences=[_difference(shown[0].run, other.run) for other in shown[1:]],
        style=Markup(_asset("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=acmix_bench.__version__,
    )


def _headings(shown: Sequence[Shown]) -> list[str]:
    """What each run is called: alone by its experiment, among others by its folder, or as it was named."""
    if len(shown) == 1:
        return [shown[0].run.plan.experiment.name]
    folders = [one.folder.resolve().name for one in shown]
    return folders if len(set(folders)) == len(folders) else [one.name for one in shown]


def _told(shown: Shown, heading: str, prefix: str) -> dict[str, Any]:
    """All that the page tells of a run."""
    comparison, plan = compare(shown.run), shown.run.plan
    every = (comparison, *comparison.others)
    drawn = figures.drawn(comparison, prefix)
    failures = [failure for one in every for failure in facts.failures(one)]
    charts = samples.charts(comparison)
    for other in comparison.others:
        apart = ", ".join(other.run.plan.merged)
        charts += [replace(chart, title=f"{apart}: {chart.title}") for chart in samples.charts(other)]
    labels = dict.fromkeys(line.row.label for one in every for line in one.lines)
    rows = {label: f"{prefix}-{place}" for place, label in enumerate(labels)}
    return {
        "id": prefix,
        "heading": heading,
        "name": shown.name,
        "experiment": plan.experiment.name,
        "question": plan.experiment.question,
        "glance": facts.glance(comparison),
        "decisive": list(map(grid, decisive(comparison))),
        "explaining": list(map(grid, explaining(comparison))),
        "figures": drawn,
        "not_drawn": len(comparison.lines) > figures.MOST_DRAWN,
        "pictures": figures.pictures(shown.folder),
        "rows": rows,
        "charts": charts,
        # Where a row's samples are: its strip in the first chart that has one.
        "samples_of": {s.label: f"{rows[s.label]}-{at}" for at, c in reversed([*enumerate(charts)]) for s in c.strips},
        "failures": failures[: facts.MOST_FAILURES],
        "more_failures": max(0, len(failures) - facts.MOST_FAILURES),
        "variants": facts.variants(comparison)[:MOST_ROWS],
        "environments": facts.environments(shown.run),
        "conditions": facts.conditions(shown.run),
        "versions": facts.versions(comparison),
        "commands": facts.commands(shown.name, shown.run, [figure.kind for figure in drawn]),
        "yaml": facts.as_yaml(plan),
        "code": facts.code(plan)[:MOST_ROWS],
    }


def _difference(base: Run, head: Run) -> dict[str, Any]:
    """What one run differs by from another, worst first, or why the two cannot be compared."""
    unlike = gate.unlike(base, head)
    found = gate.findings(base, head, Thresholds(), timings=not unlike)
    found.sort(key=lambda finding: list(WORDS).index(finding.verdict))
    counted, worse = Counter(finding.verdict for finding in found), [f for f in found if f.verdict == "regression"]
    return {
        "unlike": unlike,
        "verdicts": [(counted[said], said, words[counted[said] > 1]) for said, words in WORDS.items() if counted[said]],
        "regressions": [f"{finding.label}: {finding.metric} {finding.note}".rstrip() for finding in worse[:MOST_ROWS]],
        "table": grid(gate_table(found, (), gate.not_compared(base, head))),
    }


@cache
def _asset(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    """Everything that goes into it is escaped, and no sign of it commands anything."""
    made = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_harmless
    )
    made.filters["lines"] = lambda text: Markup("\n").join(map(printable, text.expandtabs(4).splitlines()))
    return made.from_string(_asset("page.html"))


def _harmless(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
