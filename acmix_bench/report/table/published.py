"""Our counts beside the papers' figures."""

from __future__ import annotations

from acmix_bench.analysis.compare import Comparison
from acmix_bench.analysis.published import figures_of, reasons_of
from acmix_bench.report import rounding
from acmix_bench.report.table.grid import Table


def published_table(comparison: Comparison) -> Table:
    """Parameters and MACs beside the papers' figures, with the difference and its reason."""
    rows: list[list[str]] = []
    for line in comparison.lines:
        figures = figures_of(line.row)
        parameters, macs = line.count("params", "parameters"), line.count("macs", "macs")
        if not figures or parameters is None or macs is None:
            continue
        ours = (parameters / 1e6, macs / 1e9)
        cells = [line.row.label]
        for number, (own, field, digits) in enumerate(zip(ours, ("params_m", "macs_g"), (2, 3), strict=True)):
            cells.append(f"{own:.{digits}f}")
            for kind in ("published", "counted"):
                figure = figures.get(kind)
                printed = getattr(figure, field) if figure else None
                exact = kind == "counted" and number == 0
                cells.append("-" if printed is None else rounding.published(own, printed, exact=exact))
        rows.append(cells)
    header = ["model", "params\nM", "\nprinted", "\nreleased", "MACs (FLOPs)\nG", "\nprinted", "\nreleased"]
    title = "Against published figures"
    return Table(title=title, header=header, rows=rows, notes=published_notes(comparison))


def published_notes(comparison: Comparison) -> list[str]:
    """What is printed and what is released, and why ours differs where that is known."""
    reasons = dict.fromkeys(
        f"{reason}." for line in comparison.lines if figures_of(line.row) for reason in reasons_of(line.row)
    )
    note = (
        "Printed: in the paper or its README. Released: counted on the code that its authors released. In brackets: by "
        "how much ours differs from it; '=' is equal to the last parameter."
    )
    return [note, *reasons]
