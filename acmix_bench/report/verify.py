"""Whether a rendered file still says what the records hold: it is rendered again, and every number compared."""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from acmix_bench import files
from acmix_bench.analysis.compare import compare
from acmix_bench.errors import UserError
from acmix_bench.report.cells import Content, content_of, numbers_in
from acmix_bench.report.stamp import Source, Stamp, digest, source_of, taken
from acmix_bench.runs.store import Store, folder_of

MOST_BYTES = 256 * 2**20
LAST_DIGITS = 1e-7  # by which an untouched number may differ: the last digits of an interval depend on scipy


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found: what does not match, what somebody should know beside it, and how many numbers were compared."""

    differences: Sequence[str]
    told: Sequence[str]
    numbers: int


def verify(path: Path, results: Path, run: str | None = None) -> Verdict:
    """Hold a rendered file against its run.

    Args:
        results: the folder of results, where its run is looked for by name if it is not where the file says.
        run: where the run is, by name or folder, in place of what the file says.

    Raises:
        UserError: where the file cannot be read or carries no stamp, or its run is not found.
    """
    try:
        content = files.content_of(path, most=MOST_BYTES)
        body, stamp = taken(_json_of(path) if content.startswith(b"PAR1") else content.decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text file") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if run is not None and len(stamp.runs) > 1:
        raise UserError(f"{path}: shows {len(stamp.runs)} runs, and none of them can be named alone")
    differences, told, folders = [], [], []
    for source in stamp.runs:
        folder = folder_of(run, results) if run is not None else _found(source, path, results)
        folders.append(folder)
        now = source_of(folder, path)
        for what, then, is_now in (("run.json", source.plan, now.plan), ("records.jsonl", source.records, now.records)):
            if then != is_now:
                differences.append(f"{folder / what}: is not what it was when this was rendered")
    if stamp.version != version("acmix-bench"):
        told.append(f"rendered by acmix-bench {stamp.version}; this is {version('acmix-bench')}")
    again = _render(stamp, folders)
    try:
        said, true = content_of(body, stamp.style), content_of(again, stamp.style)
    except (ValueError, LookupError) as error:
        raise UserError(f"{path}: is no {stamp.style} as acmix-bench writes it") from error
    untouched = digest(said) == stamp.content
    differences += _cells(said, true, LAST_DIGITS if untouched else 0.0)
    if untouched and said.lines != true.lines:
        told.append("this version words it otherwise; render it again")
    elif not untouched:
        told.append("the file is not as it was rendered")
        differences += _lines(said.lines, true.lines)
    return Verdict(differences=differences, told=told, numbers=len(list(numbers_in(true))))


def _found(source: Source, path: Path, results: Path) -> Path:
    """A run where the file says, or of its name where runs are; of several the one that it was rendered from."""
    places = [path.resolve().parent / source.run, Path(source.run), results / source.name, Path(source.name)]
    there = [place for place in places if files.is_file(place / "run.json")]
    if not there:
        raise UserError(f"{path}: its run is not at {source.run}, and no {source.name} is in {results}; name it: "
                        f"acmix-bench table RUN --verify {path}")  # fmt: skip
    return next((place for place in there if source_of(place, path).records == source.records), there[0])


def _json_of(path: Path) -> str:
    from acmix_bench.report.frame import parquet_as_json  # pandas takes its time

    return parquet_as_json(path)


def _render(stamp: Stamp, folders: Sequence[Path]) -> str:
    """What the stamp tells, of its runs where they are now."""
    if stamp.style == "html":
        from acmix_bench.report import page  # and jinja2

        sources = zip(stamp.runs, folders, strict=True)
        return page.render(
            [page.Shown(name=source.called or source.name, folder=at, run=Store(at).load()) for source, at in sources]
        )
    if len(folders) != 1:
        raise UserError(f"it was rendered by `{stamp.command}`, which this version does not render again")
    comparison = compare(Store(folders[0]).load())
    if stamp.style in ("csv", "json", "parquet"):
        from acmix_bench.report import frame  # pandas takes its time

        return (frame.to_csv if stamp.style == "csv" else frame.to_json)(comparison)
    from acmix_bench.report.table import render

    return render(comparison, stamp.style, stamp.columns, standalone=stamp.standalone)


def _cells(said: Content, true: Content, tolerance: float) -> Iterator[str]:
    for where in _lacking(true, said):
        yield f"{where}: is not there, and the records hold it"
    for where in _lacking(said, true):
        yield f"{where}: is there, and the records hold none"
    for place, theirs in true.cells.items():
        ours = said.cells.get(place, theirs)
        if not _are_equal(ours, theirs, tolerance):
            yield f"{_named(*place)}: says {ours or 'nothing'}, and the records say {theirs or 'nothing'}"


def _lacking(whole: Content, part: Content) -> Sequence[str]:
    """Where one content has cells that another has not: whole tables, columns or rows where they are."""
    tables = {table for table, _, _ in part.cells}
    columns = {(table, column) for table, _, column in part.cells}
    rows = {(table, row) for table, row, _ in part.cells}
    told: dict[str, None] = {}
    for table, row, column in (place for place in whole.cells if place not in part.cells):
        if table not in tables:
            row = column = ""
        elif (table, column) not in columns:
            row = ""
        elif (table, row) not in rows:
            column = ""
        told[_named(table, row, column)] = None
    return list(told)


def _named(table: str, row: str, column: str) -> str:
    """A place as it is told."""
    title = textwrap.shorten(table, 50, placeholder=" ...")
    return ", ".join(filter(None, (title, row and f"row {row}", column and f"column {column}"))) or "a row"


def _are_equal(ours: str, theirs: str, tolerance: float) -> bool:
    if ours == theirs:
        return True
    try:
        return math.isclose(float(ours), float(theirs), rel_tol=tolerance)
    except ValueError:
        return False


def _lines(said: Sequence[str], true: Sequence[str]) -> Iterator[str]:
    """What stands in no cell: notes, captions, headers."""
    ours, theirs = ([line for line in lines if line.strip()] for lines in (said, true))
    for kind, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for number in range(max(b - a, d - c)):
            here = ours[a + number] if a + number < b else None
            there = theirs[c + number] if c + number < d else None
            if here is None:
                yield f"a line is not there, and the records say: {there}"
            elif there is None:
                yield f"a line is not of the records: {here}"
            else:
                yield f"a line says: {here}, and the records say: {there}"
