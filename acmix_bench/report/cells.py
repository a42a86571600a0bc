"""A rendered file taken apart again: the cells of its tables, by where they stand, and every other line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

Place = tuple[str, str, str]  # the table, the row, the column


@dataclass
class Content:
    """What a file says. `numbers` are its cells as they stand; `lines` are what stands in no cell."""

    cells: dict[Place, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    _rows: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, table: str, header: Sequence[str], row: Sequence[str]) -> None:
        """A row, whose first cell names it; one of the same name is counted."""
        label = row[0] if row else ""
        self._rows[table, label] += 1
        again = self._rows[table, label]
        seen: Counter[str] = Counter()
        for number, cell in enumerate(row):
            title = header[number] if number < len(header) else f"column {number + 1}"
            seen[title] += 1
            column = title + f" ({seen[title]})" * (seen[title] > 1)
            self.cells[table, label + f" ({again})" * (again > 1), column] = cell


def content_of(text: str, style: str) -> Content:
    """What a rendered text says.

    Raises:
        ValueError: where it is not of this style.
    """
    return {"text": _text, "md": _markdown, "tex": _latex, "csv": _csv, "json": _json, "parquet": _json, "html": _html}[
        style
    ](text)


def of_records(records: Sequence[dict[str, Any]]) -> Content:
    """Of rows that are mappings already."""
    content = Content()
    for record in records:
        content.add("", list(record), ["" if value is None else str(value) for value in record.values()])
    return content


def _csv(text: str) -> Content:
    content = Content()
    header, *rows = csv.reader(io.StringIO(text))
    for row in rows:
        content.add("", header, row)
    return content


def _json(text: str) -> Content:
    records = json.loads(text)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("no list of objects")
    return of_records(records)


def _markdown(text: str) -> Content:
    content, table, header = Content(), "", list[str]()
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if header and not re.fullmatch(r"[|:\- ]+", line):
                content.add(table, header, cells)
                continue
            header = header or cells
        elif line.strip():
            header = []
            table = line.strip("*") if line.startswith("**") else table
        content.lines.append(line.rstrip())
    return content


def _latex(text: str) -> Content:
    content, table, header, where = Content(), "", list[str](), ""
    for line in text.splitlines():
        if match := re.match(r"\\label\{(.*)\}", line):
            table = match[1]
        elif line in (r"\toprule", r"\midrule", r"\bottomrule"):
            where, header = line, [] if line == r"\toprule" else header
        elif where and where != r"\bottomrule":
            cells = [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]
            spread = [part for cell in cells for part in [_plain(cell)] * (2 if r"\multicolumn{2}" in cell else 1)]
            if where == r"\midrule":
                content.add(table, header, spread)
                continue
            header = [f"{above} {below}".strip() for above, below in zip(header or [""] * len(spread), spread)]  # noqa: B905
        content.lines.append(line.rstrip())
    return content


def _plain(cell: str) -> str:
    """LaTeX of a cell as it is read, so that a message can show it; no sign of a number is left out."""
    cell = re.sub(r"\\multicolumn\{2\}\{c\}", "", cell)
    cell = cell.replace(r"$\pm\,$", "±").replace(r"\,", " ").replace("~", " ").replace(r"\textbackslash", "\\\\")
    cell = re.sub(r"\\(?:num|bfseries)\b ?", "", cell)
    return re.sub(r"[{}$]|\\(?=[%&#_])", "", cell).strip()


def _text(text: str) -> Content:
    """A grid begins with a line of dashes, whose gaps part the columns, and ends with an empty line."""
    content, lines = Content(), text.splitlines()
    table, header, spans = "", list[str](), list[tuple[int, int]]()
    for number, line in enumerate(lines):
        if re.fullmatch(r"-+(?:  -+)+", line.strip()):
            spans = [match.span() for match in re.finditer(r"-+", line)]
            above = next(n for n in range(number, -2, -1) if n < 0 or not lines[n].strip())
            header = [" ".join(part) for part in zip(*(_cut(one, spans) for one in lines[above + 1 : number]))]  # noqa: B905
            header = [" ".join(title.split()) for title in header]
            table = next((one for one in reversed(lines[: max(above, 0)]) if one.strip()), "")
        elif spans and line.strip():
            content.add(table, header, _cut(line, spans))
            continue
        else:
            spans = []
        content.lines.append(line.rstrip())
    return content


def _cut(line: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    return [line[begin:end].strip() for begin, end in spans]


class _Tables(HTMLParser):
    """Tables with their captions, and all other text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.content, self.table, self.header, self.number = Content(), "", list[str](), 0
        self.row, self.cell, self.is_head = list[str](), list[str](), False
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.number += 1
            self.table, self.header = f"table {self.number}", []
        elif tag == "tr":
            self.row, self.is_head = [], True
        if tag in ("td", "th", "caption"):
            self.cell = []
            self.is_head = self.is_head and tag != "td"
        if tag in ("table", "td", "th", "caption"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        told = " ".join("".join(self.cell).split())
        if tag in ("td", "th"):
            self.row.append(told)
        elif tag == "caption":
            self.table = told or self.table
            self.content.lines.append(told)
        elif tag == "tr" and self.row and self.is_head:
            self.header = self.row
            self.content.lines.append(" | ".join(self.row))
        elif tag == "tr" and self.row:
            self.content.add(self.table, self.header, self.row)
        if tag in self.open:
            del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "table":
            self.cell.append(data)
        else:
            self.content.lines += [line.strip() for line in data.splitlines() if line.strip()]


def _html(text: str) -> Content:
    parser = _Tables()
    parser.feed(text)
    parser.close()
    return parser.content


def numbers_in(cells: Content) -> Iterator[Place]:
    """Where a number stands."""
    return (place for place, cell in cells.cells.items() if re.search(r"\d", cell))
