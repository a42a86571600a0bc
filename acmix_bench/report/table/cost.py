"""Where the multiply-adds go: by stage, by layer, in the ledger, and in the common counters."""

from __future__ import annotations

from typing import Any

from acmix_bench.analysis.compare import Comparison, Line
from acmix_bench.backbones import find
from acmix_bench.ops.cost import STAGES
from acmix_bench.report import rounding
from acmix_bench.report.table.grid import Table

STAGE_TITLES = {
    "stage_1": "stage I",
    "attention": "attention",
    "fully_connected": "fully\nconnected",
    "grouped_convolution": "grouped\nconvolution",
    "rest": "rest",
}


def cost_table(comparison: Comparison) -> Table:
    """MACs of one image by stage."""
    rows = []
    for line in comparison.lines:
        stages = line.counts.get("macs", {}).get("macs_by_stage", {})
        rows.append(
            [
                line.row.label,
                macs(line),
                *(rounding.count(stages.get(stage)) or "-" for stage in STAGES),
            ]
        )
    header = ["variant", "MACs\n(FLOPs)", *(STAGE_TITLES[stage] for stage in STAGES)]
    note = "Multiply-adds of one image, from the closed form."
    return Table(title="MACs by stage", header=header, rows=rows, notes=[note])


def ledger_table(comparison: Comparison) -> Table:
    """What is executed beside what the algorithm needs, forward and backward, and the bytes that it takes."""
    rows = []
    for line in comparison.lines:
        exact = line.counts.get("macs", {})
        rows.append(
            [
                line.row.label,
                macs(line),
                _ledger(line),
                rounding.count(exact.get("macs_executed")) or "-",
                rounding.count(exact.get("macs_backward")) or "-",
                rounding.against(exact.get("flop_counter_backward"), exact.get("macs_backward")) or "-",
                rounding.count(exact.get("activations")) or "-",
                rounding.mebibytes(exact.get("parameter_bytes")) or "-",
            ]
        )
    header = ["variant", "MACs\n(FLOPs)", "\nledger", "\nexecuted", "executed\nbackward", "FlopCounterMode\nsays"]
    header += ["activa-\ntions", "params\nMiB"]
    notes = [
        "Ledger: every operation of the formulas as they stand, entered by its sizes; '=' is equal to the closed form "
        "to the last multiply-add. Executed: what the fast formulation runs. FlopCounterMode: of the backward pass, in "
        f"torch {comparison.run.plan.environment.torch}. Activations: elements that products give.",
        *_listed(
            comparison,
            {"unknown": "In no book, so the ledger is not complete", "count_with_ledger_failed": "No ledger"},
        ),
    ]
    return Table(title="Cost ledger", header=header, rows=rows, notes=notes)


def _ledger(line: Line) -> str:
    """The ledger's sum: a lower bound, and equal to nothing, where an operation or a module has no cost."""
    summed, true = line.count("macs", "ledger"), line.count("macs", "macs")
    if line.count("macs", "unknown") or line.count("macs", "no_formula"):
        return f"≥ {rounding.count(summed)}" if summed is not None else "-"
    return rounding.against(summed, true) or "-"


def counter_table(comparison: Comparison) -> Table:
    """What two counters say of the operator as it was released, and what they leave out."""
    rows = [
        [line.row.label, macs(line), _counted(line, "fvcore") or "-", _counted(line, "flop_counter") or "-"]
        for line in comparison.lines
    ]
    environment = comparison.run.plan.environment
    versions = {version for line in comparison.lines if (version := line.count("macs", "fvcore_version"))}
    notes = [
        "Each counter's matrix products, convolutions and linear layers, with ACmix written as it was released, and "
        "what they miss of the closed form.",
        f"They are those of {' '.join(['fvcore', *sorted(versions)])} and torch {environment.torch}; other versions "
        "may count otherwise.",
        *_uncounted(comparison),
    ]
    header = ["variant", "MACs\n(FLOPs)", "fvcore\nsays", "FlopCounterMode\nsays"]
    return Table(title="What the common counters say", header=header, rows=rows, notes=notes)


def macs(line: Line) -> str:
    """The MACs, marked as a lower bound where a module has no formula."""
    shown = rounding.count(line.count("macs", "macs")) or line.failed("macs") or "-"
    return f"≥ {shown}" if line.count("macs", "no_formula") else shown


def layer_table(line: Line) -> Table:
    """One model's MACs and parameters layer by layer."""
    rows = [
        [
            layer["name"] or "(all)",
            layer["type"],
            rounding.count(layer["parameters"]),
            rounding.count(_macs_of(layer)),
        ]
        for layer in line.counts["macs"]["layers"]
    ]
    return Table(title=f"Layers of {line.row.label}", header=["layer", "type", "params", "MACs\n(FLOPs)"], rows=rows)


def stage_table(line: Line) -> Table:
    """One model's MACs and parameters by the stages of its backbone; stem and head are the rest."""
    stages = [module for module, _ in find(line.row.case.backbone).stages]
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for layer in line.counts["macs"]["layers"]:
        within = next((stage for stage in stages if layer["name"].startswith(f"{stage}.")), "rest")
        by_stage.setdefault(within, []).append(layer)
    rows = []
    for stage in (*stages, "rest"):
        layers = by_stage.get(stage, [])
        parameters = sum(layer["parameters"] for layer in layers)
        rows.append([stage, rounding.count(parameters), rounding.count(sum(map(_macs_of, layers)))])
    note = "Parameters are those of layers that multiply; normalisation and positions are left out."
    return Table(
        title=f"Stages of {line.row.label}", header=["stage", "params", "MACs\n(FLOPs)"], rows=rows, notes=[note]
    )


def _macs_of(layer: dict[str, Any]) -> int:
    return sum(layer["macs"].values())


def _counted(line: Line, counter: str) -> str:
    """What a counter says, and the share of the true MACs that it misses."""
    counted, true = line.count("macs", counter), line.count("macs", "macs")
    return rounding.count(counted) if line.count("macs", "no_formula") else rounding.against(counted, true)


def _uncounted(comparison: Comparison) -> list[str]:
    """The operations that each counter passed over, and the modules that no formula covers."""
    titles = {
        "fvcore_not_counted": "fvcore does not count",
        "flop_counter_not_counted": "FlopCounterMode does not count",
        "count_with_fvcore_failed": "fvcore failed",
        "count_with_flop_counter_failed": "FlopCounterMode failed",
        "no_formula": "No formula, so the MACs are at least (≥) what is shown",
    }
    return _listed(comparison, titles)


def _listed(comparison: Comparison, titles: dict[str, str]) -> list[str]:
    """A note for each kind of name that any row has."""
    notes = []
    for key, title in titles.items():
        names = sorted({name for line in comparison.lines for name in line.counts.get("macs", {}).get(key, {})})
        if names:
            notes.append(f"{title}: {', '.join(names)}.")
    return notes
