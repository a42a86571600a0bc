r"""Tables in LaTeX, finished: captions, labels, aligned numbers, notes. It is ASCII and needs four packages.

A number stands in a column of siunitx, so that points align; what follows it (a unit, an interval, a verdict) in a
column of its own close behind. A cell that failed is a mark, and a note says why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from acmix_bench.report.table.escape import escaped, escaped_part
from acmix_bench.report.table.grid import FAILED, Table, one_line

HEAD = r"% Needs \usepackage{booktabs,siunitx,threeparttable,adjustbox} in the preamble."
PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=18mm%s]{geometry}
\usepackage{booktabs,siunitx,threeparttable,adjustbox}
\pagestyle{empty}
\begin{document}
"""
# How many characters of a row fit: a column of two, then a page, then one in smaller print. What is wider is scaled.
COLUMN, PAGE, SMALLER = 54, 100, 120
MARKS = (r"\dag", r"\ddag", r"\S", r"\P")
NOTHING = "-"
NUMBER = r"[+-]?\d+(?:\.\d+)?"


def render(tables: Sequence[Table], name: str, *, standalone: bool = False) -> str:
    r"""Tables one after the other, to be \input, or as a document.

    Args:
        name: of the run, which the labels begin with.
    """
    floats, labels = [], set[str]()
    for number, table in enumerate(tables):
        label = _slug(name) if not number else f"{_slug(name)}-{_slug(table.title)}"
        while label in labels:
            label += "-again"
        labels.add(label)
        floats.append(_Float(table=table, name=name, label=label))
    told = "\n".join(one.render() for one in floats)
    if not standalone:
        return f"{HEAD}\n{told}"
    turned = ",landscape" * any(one.width > SMALLER for one in floats)
    return f"{PREAMBLE % turned}{told}\\end{{document}}\n"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "run"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number with its unit and what follows, or words alone where it is none. Both are LaTeX already."""

    number: str = ""
    unit: str = ""
    rest: str = ""
    words: str = ""


def cell_of(text: str) -> Cell:
    """A cell, taken apart."""
    text = one_line(text)
    if text == NOTHING:
        return Cell(words="--")
    if not (match := re.fullmatch(rf"({NUMBER})(?: ([kMG%])(?= |$))?((?: .*)?)", text)):
        return Cell(words=_with_numbers(text))
    number, unit, rest = match.groups()
    return Cell(number=number, unit=unit or "", rest=_with_numbers(rest.strip()))


def _with_numbers(text: str) -> str:
    """Words in which every number is set as one, close to its sign and its unit."""
    parts = re.split(rf"(?<![\w.])({NUMBER})(?![\w.])", text)
    told = "".join(_number(part) if place % 2 else escaped_part(part) for place, part in enumerate(parts))
    return re.sub(r"\} (?=\\%|[kMG]\b)", r"}\\,", told.replace(r"$\pm$\num", r"$\pm\,$\num"))


def _number(text: str) -> str:
    """As siunitx sets it, which would leave out the sign of naught."""
    if text[0] in "+-" and not float(text):
        return rf"${text[0]}$\num{{{text[1:]}}}"
    return rf"\num{{{text}}}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the grid: its header, a line above the other, and its cells."""

    header: Sequence[str]
    cells: Sequence[Cell]

    @cached_property
    def unit(self) -> str:
        """What all numbers have, but for naught: it stands in the header, in place of every cell."""
        units = {cell.unit for cell in self.cells if cell.number and (cell.unit or cell.number.strip("0."))}
        return units.pop() if len(units) == 1 else ""

    def rest(self, cell: Cell) -> str:
        """What stands in the column behind the number."""
        unit = rf"\,{cell.unit}".replace("%", r"\%") if cell.unit and not self.unit else ""
        return unit + (f"~{cell.rest}" if cell.rest else "")

    @cached_property
    def has_rest(self) -> bool:
        """Whether anything follows a number."""
        return any(self.rest(cell) for cell in self.cells)

    @property
    def titles(self) -> list[str]:
        """The header with its unit."""
        *above, last = self.header
        if self.unit:
            last = f"{last.removesuffix(')')}, {self.unit})" if last.endswith(")") else f"{last} ({self.unit})"
        return [*above, last]

    @property
    def width(self) -> int:
        """In characters, about."""
        cells = [c.words or c.number + self.rest(c) for c in self.cells]
        return max(len(_plain(text)) for text in (*self.titles, *cells))

    @property
    def format(self) -> str:
        """Of the numbers, for siunitx: a sign, and how many digits before and behind the point."""
        numbers = [cell.number for cell in self.cells if cell.number]
        parts = [number.lstrip("+-").partition(".") for number in numbers] or [("0", "", "")]
        sign = "+" * any(number[0] in "+-" for number in numbers)
        return f"{sign}{max(len(whole) for whole, _, _ in parts)}.{max(len(decimals) for _, _, decimals in parts)}"

    @cached_property
    def specification(self) -> str:
        """What `tabular` is told of it. A header that is wider than what stands below is kept in its middle."""
        content = max((len(_plain(cell.number + self.rest(cell))) for cell in self.cells if cell.number), default=0)
        spare = (max(map(len, self.titles)) - content) / 4 if self.has_rest else 0
        pad = rf"@{{\hspace{{\dimexpr2\tabcolsep+{spare:.1f}em}}}}" if spare > 0.5 else ""
        return pad + rf"S[table-format={self.format}]" + "@{}l" * self.has_rest


def _plain(text: str) -> str:
    """LaTeX without most of its commands, to know how long it is."""
    return re.sub(r"\\(?:num|pm|,|geq)|[{}$]", "", text)


@dataclass(frozen=True, kw_only=True)
class _Float:
    """A table with its caption, its label and its notes."""

    table: Table
    name: str
    label: str

    @cached_property
    def columns(self) -> list[Column]:
        """All but the first, which holds the labels."""
        table = self.table
        depth = max(name.count("\n") for name in (one.replace("-\n", "") for one in table.header)) + 1
        found = []
        for number, name in list(enumerate(table.header))[1:]:
            lines = name.replace("-\n", "").strip("\n").split("\n")
            cells = [cell_of(row[number]) if number < len(row) else Cell() for row in table.rows]
            found.append(Column(header=[""] * (depth - len(lines)) + lines, cells=cells))
        return found

    @property
    def width(self) -> int:
        """Of a row, in characters, about."""
        labels = max((len(one_line(row[0])) for row in self.table.rows), default=0)
        return labels + sum(column.width + 2 for column in self.columns)

    @cached_property
    def marks(self) -> dict[str, str]:
        """Of each row that failed here, by its label, the mark that stands for the reason."""
        table = self.table
        failed = [
            row[0]
            for row in table.rows
            if row[0] in table.reasons and (table.problems or any(cell in FAILED for cell in row[1:]))
        ]
        more = [chr(ord("a") + number % 26) * (1 + number // 26) for number in range(len(failed))]
        return dict(zip(failed, [*MARKS, *more], strict=False))

    def render(self) -> str:
        """The float. It is as wide as a column of two where it fits one, else as a page."""
        table, columns = self.table, self.columns
        kind = "table" if self.width <= COLUMN else "table*"
        size = r"\small" if self.width <= PAGE else r"\footnotesize" if self.width <= SMALLER else r"\scriptsize"
        specification = "".join(f"\n    {column.specification}" for column in columns)
        lines = [
            rf"\begin{{{kind}}}[tbp]",
            rf"\centering{size}\setlength\belowcaptionskip{{6pt}}",
            r"\sisetup{detect-weight=true,retain-explicit-plus=true}",
            rf"\caption[{escaped(self._short)}]{{{self._caption}}}",
            rf"\label{{tab:{self.label}}}",
            r"\begin{adjustbox}{max width=\linewidth,max totalheight=0.85\textheight}",
            r"\begin{threeparttable}",
            rf"\begin{{tabular}}{{l{specification}",
            r"}",
            r"\toprule",
            *self._header(),
            r"\midrule",
            *(self._row(place) for place in range(len(table.rows))),
            r"\bottomrule",
            r"\end{tabular}",
            *self._notes(),
            r"\end{threeparttable}",
            r"\end{adjustbox}",
            rf"\end{{{kind}}}",
        ]
        return "\n".join(lines) + "\n"

    @property
    def _short(self) -> str:
        return self.name if self._is_first else f"{self.name}: {self.table.title}"

    @property
    def _is_first(self) -> bool:
        return self.table.title.startswith(f"{self.name}: ")

    @property
    def _caption(self) -> str:
        said = self.table.title.removeprefix(f"{self.name}: ")
        end = "" if said.rstrip().endswith((".", "?", "!")) else "."
        conditions = f" {escaped(self.table.conditions)}" * bool(self.table.conditions)
        return rf"\textbf{{{escaped(self.name)}:}} {escaped(said)}{end}{conditions}"

    def _header(self) -> list[str]:
        first = self.table.header[0]
        depth = max(len(column.header) for column in self.columns)
        lines = []
        for level in range(depth):
            titles = [escaped(first) if level == depth - 1 else ""]
            for column in self.columns:
                title = escaped(column.titles[level])
                titles.append(rf"\multicolumn{{2}}{{c}}{{{title}}}" if column.has_rest else f"{{{title}}}")
            lines.append(" & ".join(titles) + r" \\")
        return lines

    def _row(self, place: int) -> str:
        label, *texts = self.table.rows[place]
        texts += [""] * (len(self.columns) - len(texts))
        mark = self.marks.get(label, "")
        is_marked = mark and not any(text in FAILED for text in texts)
        told = [escaped(label) + rf"\tnote{{{mark}}}" * bool(is_marked)]
        for number, (text, column) in enumerate(zip(texts, self.columns, strict=True), 1):
            cell, bold = column.cells[place], r"\bfseries " * ((place, number) in self.table.best)
            if text in FAILED and mark:
                words, rest = rf"--\tnote{{{mark}}}", ""
            else:
                words, rest = cell.words, column.rest(cell)
            if words and column.has_rest and not words.startswith("--"):
                told.append(rf"\multicolumn{{2}}{{c}}{{{words}}}")
                continue
            told.append(f"{{{words}}}" if words else f"{bold}{cell.number}")
            if column.has_rest:
                told.append(f"{bold}{rest}" if rest else "")
        return " & ".join(told) + r" \\"

    def _notes(self) -> list[str]:
        table, marks = self.table, self.marks
        items = [rf"\item[{mark}] {escaped(label)}: {escaped(table.reasons[label])}" for label, mark in marks.items()]
        told = [] if marks else list(table.problems)
        items += [rf"\item {escaped(note)}" for note in (*told, *table.ties, *table.notes)]
        if not items:
            return []
        return [r"\begin{tablenotes}[flushleft]\footnotesize\setlength\labelsep{0pt}", *items, r"\end{tablenotes}"]
