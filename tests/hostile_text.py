"""A run whose question and labels hold what each format reads as a sign of its own."""

from __future__ import annotations

from dataclasses import replace

from acmix_bench.analysis.compare import Comparison

QUESTION = "is $x$ *better*?\n\\input{evil}\n# head ±×Δ≥ αΩ é ł 中 \U0001f600 ~ ^ ``a'' \"b\" <c> --d ,,e ?`"


def with_hostile_text(comparison: Comparison) -> Comparison:
    plan = comparison.run.plan
    experiment = plan.experiment.model_copy(update={"question": QUESTION})
    run = comparison.run.model_copy(update={"plan": plan.model_copy(update={"experiment": experiment})})
    first, *others = comparison.lines
    signs = ("[a|b", "*c")
    rows = [
        line.row.model_copy(update={"label": f"{sign}\n$c_{number} & 5%{{}}\\\\\x1b[2J"})
        for number, (sign, line) in enumerate(zip(signs, others, strict=True))
    ]
    return Comparison(run=run, lines=(first, *map(lambda line, row: replace(line, row=row), others, rows)))
