"""`records.jsonl`: a record a line, appended and never changed, by one writer at a time, and read at any time."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from acmix_bench import files
from acmix_bench.errors import UserError, a_few
from acmix_bench.runs import values
from acmix_bench.runs.record import FORMAT, Record

RECORDS, TORN = "records.jsonl", "torn.jsonl"
MOST_LINE = 64 * 2**20  # bytes of a record
TOO_LONG = f"{{}}: holds a line that is longer than {MOST_LINE // 2**20} MiB, and no record; take it out"


def is_locked(file: int, how: int, patience: float = 0) -> bool:
    """Lock a file until it is closed, and say whether that was possible: not where another process holds it longer."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)


def append(file: FileIO, record: Record) -> None:
    """Add one record; it is on disk when this returns, or not at all.

    Raises:
        OSError: where it cannot be written.
    """
    line, size = memoryview(record.model_dump_json().encode() + b"\n"), file.seek(0, os.SEEK_END)
    try:
        while line:
            line = line[file.write(line) or 0 :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


def set_aside_torn_line(file: FileIO, folder: Path) -> None:
    """Where a kill cut the last line short, move it to a file of its own; a whole one gets its end.

    Raises:
        OSError: where that cannot be written.
        UserError: where the last line is longer than any record.
    """
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, end - MOST_LINE))
    _, newline, last = file.read(MOST_LINE).rpartition(b"\n")
    if not last:
        return
    if start and not newline:
        raise UserError(TOO_LONG.format(folder / RECORDS))
    if _record_in(last):
        file.write(b"\n")
        return
    with files.opened_to_append(folder / TORN) as torn:
        torn.write(last + b"\n")
    file.truncate(end - len(last))
    _tell(f"{folder}: the last record was cut short by a kill; it is in {TORN}, and is measured again")


def read(path: Path, wanted: Collection[str]) -> Iterator[tuple[int, Record]]:
    """The records of these cells, and the byte of the file where each begins.

    Lines that are none are counted and told; the last one may be being written.

    Raises:
        UserError: where the file cannot be read, or a newer version wrote a record.
    """
    odd, place = [], 0
    with _uncollected():
        for number, line in enumerate(_lines(path), 1):
            record = _record_in(line)
            if record and record.key not in wanted:
                pass
            elif record and _can_be_shown(record):
                yield place, record
            elif line.strip() and line.endswith(b"\n"):
                refuse_newer(line, f"{path}, line {number}")
                odd.append(number)
            place += len(line)
    if odd:
        count = "1 line is" if len(odd) == 1 else f"{len(odd)} lines are"
        told = a_few([str(number) for number in odd])
        _tell(f"{path}: {count} no record that this version can read, and left out: {told}")


def refuse_newer(text: str | bytes, where: str) -> None:
    """Refuse what a newer version of this package wrote.

    Raises:
        UserError: saying so.
    """
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        found = content.get("format") if isinstance(content, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise UserError(f"{where}: is of format {found}, and this version reads up to {FORMAT}; use a newer one")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Have nobody look for garbage among thousands of records, which are none: that takes as long as reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of records, of which there are none where it is not there.

    Raises:
        UserError: where it cannot be read, or holds a line that is longer than any record.
    """
    try:
        with files.opened(path) as file:
            while line := file.readline(MOST_LINE):
                if len(line) == MOST_LINE:
                    raise UserError(TOO_LONG.format(path))
                yield line
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _record_in(line: bytes) -> Record | None:
    try:
        return Record.model_validate_json(line)
    except (ValidationError, UserError):
        return None


def _can_be_shown(record: Record) -> bool:
    """Whether the values are such as its meter gives."""
    try:
        if record.status == "ok":
            values.check(record.cell.meter, record.values)
    except ValueError:
        return False
    return True


@cache
def _tell(line: str) -> None:
    """Tell something about what is read, once."""
    print(line, file=sys.stderr, flush=True)
