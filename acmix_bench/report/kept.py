"""The tables that lie beside the records."""

from __future__ import annotations

from acmix_bench.analysis.compare import Comparison
from acmix_bench.report.stamp import Style, stamp, stamped
from acmix_bench.report.table import render
from acmix_bench.runs.store import Store


def write_tables(store: Store, comparison: Comparison) -> None:
    """Write table.md and table.csv into the folder of a run, with their stamps.

    Raises:
        UserError: where they cannot be written.
    """
    from acmix_bench.report.frame import to_csv  # pandas takes its time

    rendered: tuple[tuple[Style, str], ...] = (("md", render(comparison, "md")), ("csv", to_csv(comparison)))
    for style, text in rendered:
        path = store.folder / f"table.{style}"
        store.write(path.name, stamped(text, stamp(store.folder, path, style)))
