"""What a rendered file carries: of which run it was rendered, by what, and hashes of all that it shows.

A text has it in a last line that nobody reads: a comment of Markdown, HTML or LaTeX. A CSV has no comments that every
reader knows, and a file beside it is lost with the first copy: there it is a last column, `rendered`, in every row,
which pandas reads like any other, and which stays with rows that are joined to those of another run. So it is in JSON
and parquet.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from acmix_bench import files
from acmix_bench.errors import UserError
from acmix_bench.report.cells import Content, content_of
from acmix_bench.runs.journal import RECORDS
from acmix_bench.spec.strict import Value

COLUMN = "rendered"
LINES = {"text": "[{}]", "md": "<!-- {} -->", "html": "<!-- {} -->", "tex": "% {}"}
Style = Literal["text", "md", "tex", "csv", "json", "parquet", "html"]
MARK = "acmix-bench rendered this: "


class Source(Value):
    """A run that a file shows: where it is, seen from the file, its folder's name, and hashes of what it holds.

    `called` is how somebody named it, where a page shows that.
    """

    run: str
    name: str
    called: str = ""
    plan: str
    records: str


class Stamp(Value):
    """Where a file comes from.

    Attributes:
        command: what renders it again; `style`, `columns` and `standalone` are what it says.
        content: a hash of what the file says beside this.
    """

    version: str
    command: str
    style: Style
    columns: tuple[str, ...] | None = None
    standalone: bool = False
    runs: tuple[Source, ...]
    content: str = ""


def stamp(
    folder: Path,
    out: Path,
    style: Style,
    *,
    columns: Sequence[str] | None = None,
    standalone: bool = False,
) -> Stamp:
    """Of a file with the tables of a run.

    Raises:
        UserError: where a run cannot be read.
    """
    source = source_of(folder, out)
    words = ["acmix-bench", "table", source.name, "--format", style] + ["--standalone"] * standalone
    words += ["--columns", ",".join(_quoted(one) for one in columns)] if columns else []
    return Stamp(
        version=version("acmix-bench"),
        command=shlex.join(words),
        style=style,
        columns=None if columns is None else tuple(columns),
        standalone=standalone,
        runs=(source,),
    )


def stamp_of_page(runs: Sequence[tuple[str, Path]], out: Path) -> Stamp:
    """Of a page that shows runs, each with what somebody called it.

    Raises:
        UserError: where a run cannot be read.
    """
    sources = tuple(source_of(folder, out).model_copy(update={"called": called}) for called, folder in runs)
    command = shlex.join(["acmix-bench", "report", *(called for called, _ in runs)])
    return Stamp(version=version("acmix-bench"), command=command, style="html", runs=sources)


def source_of(folder: Path, out: Path) -> Source:
    """A run as it is now, seen from a file.

    Raises:
        UserError: where it cannot be read.
    """
    run = os.path.relpath(folder.resolve(), out.resolve().parent)
    plans, records = ([folder / name, *sorted(folder.glob(f"timings-*/{name}"))] for name in ("run.json", RECORDS))
    return Source(run=Path(run).as_posix(), name=folder.resolve().name, plan=_hash(plans), records=_hash(records))


def stamped(text: str, made: Stamp) -> str:
    """A rendered text with its stamp."""
    told = made.model_copy(update={"content": digest(content_of(text, made.style))})
    if made.style == "csv":
        header, *rows = csv.reader(io.StringIO(text))
        return _as_csv([[*header, COLUMN], *([*row, as_line(told)] for row in rows)])
    if made.style in ("json", "parquet"):
        return json.dumps([row | {COLUMN: as_line(told)} for row in json.loads(text)], indent=1) + "\n"
    return f"{text}\n{LINES[made.style].format(MARK + as_line(told))}\n"


def taken(text: str) -> tuple[str, Stamp]:
    """A rendered text without its stamp, and the stamp.

    Raises:
        UserError: where it has none, or none that can be read.
    """
    body, lines = _parted(text)
    told = next(filter(None, reversed(lines)), "")
    if not told:
        raise UserError("carries no stamp; acmix-bench table RUN --out FILE writes one")
    try:
        return body, Stamp.model_validate_json(told)
    except (ValidationError, UserError) as error:
        raise UserError("its stamp is none that this version can read") from error


def _parted(text: str) -> tuple[str, list[str]]:
    """A text without any stamp, and its stamps."""
    pattern = rf"\n?^\W*{re.escape(MARK)}(\{{.*\}}).*$\n?"
    if lines := re.findall(pattern, text, flags=re.MULTILINE):
        return re.sub(pattern, "", text, flags=re.MULTILINE), lines
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        told: list[dict[str, Any]] = json.loads(text)
        lines = [str(row.pop(COLUMN, "")) for row in told]
        return json.dumps(told), lines
    with suppress(ValueError, csv.Error):
        header, *rows = csv.reader(io.StringIO(text))
        place = header.index(COLUMN)
        body = _as_csv([row[:place] + row[place + 1 :] for row in (header, *rows)])
        return body, [row[place] for row in rows if len(row) > place]
    return text, []


def as_line(made: Stamp) -> str:
    """ASCII that ends no comment."""
    told = json.dumps(made.model_dump(mode="json", exclude_defaults=True))
    return told.replace("<", "\\u003c").replace(">", "\\u003e")


def digest(content: Content) -> str:
    """Of what a file says, however it is laid out."""
    said = [sorted([*place, cell] for place, cell in content.cells.items()), "\n".join(content.lines).strip()]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _quoted(column: str) -> str:
    return f'"{column}"' if "," in column else column


def _as_csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _hash(paths: Sequence[Path]) -> str:
    hashed = hashlib.sha256()
    for path in paths:
        try:
            with files.opened(path) as file:
                hashed.update(hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError:  # a run of which nothing is measured
            hashed.update(b"nothing")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return hashed.hexdigest()[:16]
