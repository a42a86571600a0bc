"""LaTeX that is finished: it compiles as it is, and what is bold, failed or chosen looks so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from fake_meter import answer
from hostile_text import with_hostile_text

from acmix_bench import ablate
from acmix_bench.analysis.best import leading_rows
from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.errors import UserError
from acmix_bench.report.table import render, tables
from acmix_bench.report.table.columns import catalogue, split
from acmix_bench.report.table.escape import escaped
from acmix_bench.report.table.latex import cell_of
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Run
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell

SHOWN = Path(__file__).parent.parent.parent / "results" / "shown"
full = pytest.mark.skipif(
    not (os.environ.get("ACMIX_BENCH_FULL") and shutil.which("pdflatex")), reason="nox -s latex, with pdflatex"
)
PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs,siunitx,threeparttable,adjustbox}
\begin{document}
Table~\ref{tab:%s} is the main one.
\input{tables}
\end{document}
"""


@cache
def shown(name: str) -> Comparison:
    return compare(Store(SHOWN / name).load())


def measured(measure=answer) -> Comparison:
    experiment = library.load_experiment("smoke")
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    return compare(Run(plan=plan, records=tuple(ablate.records(plan, {}, measure))))


def failing(cells: Sequence[Cell], timeout: float = 0) -> list[Outcome]:
    """One row's training crashes, and one seed of another diverges."""
    outcomes = answer(cells)
    for number, cell in enumerate(cells):
        label = cell.row.label
        if cell.meter == "accuracy" and label == "operator=conv":
            outcomes[number] = Outcome(status="crashed", reason="out of_memory & 5 %")
        if cell.meter == "accuracy" and label == "shift=tensor" and cell.repeat:
            outcomes[number] = Outcome(status="diverged", reason="the loss is not finite")
    return outcomes


def grid(tex: str) -> list[list[str]]:
    """The cells of the first table, the header's last line first."""
    body = tex.partition("\\toprule\n")[2].partition("\\bottomrule")[0]
    header, _, rows = body.partition("\\midrule\n")
    lines = [header.strip().splitlines()[-1], *rows.strip().splitlines()]
    return [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in lines]


def test_every_cell_has_its_place() -> None:
    for name in ("paths", "shift-cluttered", "backbones"):
        tex = render(shown(name), "tex")
        for part, table in zip(tex.split("\\toprule")[1:], tables(shown(name)), strict=True):
            header, rows = part.partition("\\midrule\n")[::2]
            lines = (header + rows.partition("\\bottomrule")[0]).strip("\n").splitlines()
            spans = {line.count(" & ") + line.count("multicolumn{2}") for line in lines}
            assert len(spans) == 1, table.title
        assert len(set(re.findall(r"\\label\{(.*)\}", tex))) == len(tables(shown(name)))
        assert rf"\label{{tab:{name}}}" in tex


def test_the_caption_tells_question_protocol_seeds_and_machine() -> None:
    caption = re.findall(r"\\caption\[paths\]\{(.*)\}", render(shown("paths"), "tex"))[0]
    plan = shown("paths").run.plan
    assert plan.experiment.question in caption
    assert "10 processes, batch 32, float32, 2 threads. Digits, 3 epochs, 5 seeds." in caption
    assert "Measured on AMD EPYC, 2 cores." in caption


def test_a_cell_is_taken_apart() -> None:
    cells = {
        "2642 [2212, 2866]": ("2642", "", r"{[}\num{2212}, \num{2866}{]}"),
        "96.78 ±0.46": ("96.78", "", r"$\pm\,$\num{0.46}"),
        "+0.1 ±3.6 noise": ("+0.1", "", r"$\pm\,$\num{3.6} noise"),
        "7.99 M (-16.9 %)": ("7.99", "M", r"(\num{-16.9}\,\%)"),
        "13.7 (-0.0 %)": ("13.7", "", r"($-$\num{0.0}\,\%)"),
        "95 %": ("95", "%", ""),
    }
    for text, (number, unit, rest) in cells.items():
        cell = cell_of(text)
        assert (cell.number, cell.unit, cell.rest, cell.words) == (number, unit, rest, "")
    assert cell_of("-").words == "--"
    assert cell_of("≥ 2.3 M").words == r"$\geq$ \num{2.3}\,M"


def test_every_character_prints_as_itself() -> None:
    assert escaped("5 % of $x_1 & #2 {a} ~ ^ \\b") == (
        r"5~\% of \$x\_1 \& \#2 \{a\} \textasciitilde{} \textasciicircum{} \textbackslash{}b"
    )
    assert escaped("±×≥Δα é ł") == r"$\pm$$\times$$\geq$$\Delta$$\alpha$ \'{e} \l{}"
    assert escaped("[a] *b --c\n'd' 中") == r"{[}a{]} {*}b -{}-c `d' {[}U+4E2D{]}"


def test_bold_is_best_beyond_doubt_and_ties_are_told() -> None:
    comparison = shown("paths")
    header, *rows = grid(render(comparison, "tex", ["parameters", "inference_images_per_s", "accuracy"]))
    bold = [row for row in rows if "\\bfseries" in " ".join(row)]
    assert [row[0] for row in bold] == ["operator=conv"]
    assert bold[0][2].startswith("\\bfseries 5492")
    assert not any("\\bfseries" in cell for row in rows for cell in row[4:]), "top-1 has no best row"
    (tied,) = leading_rows(comparison, "accuracy")
    assert len(tied) == 4
    told = rf"No row is best beyond doubt in top-1~\%: tied are {', '.join(tied)}."
    assert told in render(comparison, "tex")
    assert told not in render(comparison, "text"), "nothing is bold there"


def test_what_failed_is_a_mark_with_its_reason() -> None:
    tex = render(measured(failing), "tex")
    rows = {row[0].partition(r"\tnote")[0]: row for row in grid(tex)}
    assert r"{--\tnote{\dag}}" in rows["operator=conv"]
    assert rows["shift=tensor"][0] == r"shift=tensor\tnote{\ddag}", "it has numbers, of fewer seeds"
    assert r"\item[\dag] operator=conv: accuracy crashed: out of\_memory \& 5~\%" in tex
    assert r"\item[\ddag] shift=tensor: accuracy diverged: the loss is not finite" in tex
    assert not any("tnote" in cell for cell in rows["baseline"])


def test_columns_are_chosen_ordered_and_named() -> None:
    told = split('variant=Model,accuracy_difference,macs="Cost, all",inference_ratio')
    for style in ("text", "md", "tex"):
        rendered = render(shown("paths"), style, told)
        titles = ["Model", "top-1", "Cost, all", "baseline"]
        assert [rendered.index(title) for title in titles] == sorted(rendered.index(title) for title in titles) or style
    (table,) = tables(shown("paths"), told)
    assert list(table.header) == ["Model", "Δ top-1", "Cost, all", "inference\n× baseline"]
    speeds = next(table for table in tables(shown("paths")) if table.title == "Speed and memory")
    assert [row[3] for row in table.rows] == [row[1] for row in speeds.rows]
    (published,) = tables(shown("backbones"), ["published_macs", "released_params", "published_top1"])
    beside = next(t for t in tables(shown("backbones")) if t.title == "Against published figures")
    assert {row[0]: row[1] for row in published.rows} == {row[0]: row[5] for row in beside.rows}
    assert {row[0]: row[2] for row in published.rows} == {row[0]: row[3] for row in beside.rows}


def test_every_column_can_be_shown() -> None:
    for name in ("paths", "scenes-segment", "backbones"):
        columns = list(catalogue(shown(name).run.plan.experiment))
        (table,) = tables(shown(name), columns)
        filled = [any(row[number] != "-" for row in table.rows) for number in range(len(table.header))]
        missing = {columns[number - 1] for number, one in enumerate(filled) if not one}
        assert not {
            one
            for one in missing
            if not re.search(r"of_matmul|host_share|published|released|ledger|macs_|activ|_bytes|flop", one)
        }


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["acuracy"], "--columns: unknown column 'acuracy'; did you mean 'accuracy'?"),
        (["macs", "macs=x"], "--columns: column macs stands twice"),
        (["macs="], "--columns: macs=: write its title behind it, or leave the sign out"),
    ],
)
def test_a_mistake_in_columns_is_told(columns: list[str], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        tables(shown("paths"), columns)


def test_an_experiment_chooses_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = library.known("experiment")["smoke"].path.read_text()
    path.write_text(f"{text}\ncolumns: [parameters=size, inference_ratio]\n")
    experiment = library.load_experiment(str(path))
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    comparison = compare(Run(plan=plan, records=tuple(ablate.records(plan, {}, answer))))
    (table,) = tables(comparison)
    assert list(table.header) == ["variant", "size", "inference\n× baseline"]
    assert len(tables(comparison, ["all"])) > 3
    path.write_text(f"{text}\ncolumns: [paramters]\n")
    experiment = library.load_experiment(str(path))
    with pytest.raises(UserError, match="mine: columns: unknown column 'paramters'; did you mean 'parameters'"):
        ablate.plan_of(experiment, ablate.rows_of(experiment))


def compiled(folder: Path, text: str) -> str:
    """The log of pdflatex, which must not fail, and must know every label."""
    (folder / "paper.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    log = (folder / "paper.log").read_text(errors="replace")
    assert "Overfull \\hbox" not in log
    assert "undefined" not in log
    return log


def all_of(name: str) -> Comparison:
    if name == "failed":
        return measured(failing)
    return with_hostile_text(measured()) if name == "hostile" else shown(name)


@full
@pytest.mark.parametrize("name", ["paths", "shift-cluttered", "backbones", "hostile", "failed"])
def test_it_compiles_alone_and_in_a_paper(name: str, tmp_path: Path) -> None:
    comparison = all_of(name)
    compiled(tmp_path, render(comparison, "tex", standalone=True))
    (tmp_path / "tables.tex").write_text(render(comparison, "tex"))
    compiled(tmp_path, PAPER % comparison.run.plan.experiment.name)
