"""The store under results/<experiment>/: records and the plan of the last run.

A record is one line of `records.jsonl`, on disk before the next cell starts. `run.json` holds the plan of the last run,
so that a table shows that run's cells and no others.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from acmix_bench import files
from acmix_bench.errors import UserError, a_few, unknown
from acmix_bench.runs import values
from acmix_bench.runs.environment import Environment
from acmix_bench.runs.record import FORMAT, KeptPlan, Plan, Record, Run
from acmix_bench.spec.experiment import Experiment

TORN = "torn.jsonl"
MOST_LINE, MOST_PLAN = 64 * 2**20, 256 * 2**20  # bytes of a record, and of run.json
TOO_LONG = f"{{}}: holds a line that is longer than {MOST_LINE // 2**20} MiB, and no record; take it out"


class Store:
    """The folder of one experiment. Records are appended, everything else is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def opened(self, plan: Plan, file: Path | None = None) -> Iterator[None]:
        """Make the folder, keep others out, and write down the plan.

        Args:
            file: the experiment's, where it is the user's own.

        Raises:
            UserError: where the folder cannot be written, another run is writing to it, or it holds the run of another
                experiment of the same name.
        """
        seen = os.path.relpath(file.resolve(), self.folder.resolve()) if file else ""
        self._refuse_another_experiment(plan.experiment, seen)
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = files.opened_to_append(self.folder / "records.jsonl")
        with self._file:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.folder}: another run is writing here; wait for it") from error
            self._set_aside_torn_line()
            kept = KeptPlan(**plan.model_dump(), keys=tuple(cell.key for cell in plan.cells), file=seen)
            self.write("run.json", kept.model_dump_json(indent=1))
            yield

    def _set_aside_torn_line(self) -> None:
        """Where a kill cut the last line short, move it to a file of its own; a whole one gets its end."""
        with self._writing():
            end = self._file.seek(0, os.SEEK_END)
            start = self._file.seek(max(0, end - MOST_LINE))
            whole, newline, last = self._file.read(MOST_LINE).rpartition(b"\n")
            if not last:
                return
            if start and not newline:
                raise UserError(TOO_LONG.format(self.folder / "records.jsonl"))
            if _read(last):
                self._file.write(b"\n")
                return
            with files.opened_to_append(self.folder / TORN) as torn:
                torn.write(last + b"\n")
            self._file.truncate(end - len(last))
        _tell(f"{self.folder}: the last record was cut short by a kill; it is in {TORN}, and is measured again")

    def keep(self, run: Run) -> None:
        """Write a run that was made of others. It stands there whole, or not at all.

        Raises:
            UserError: where the folder is not empty, or cannot be written.
        """
        whole = self.folder
        with self._writing():
            if whole.exists() and any(whole.iterdir()):
                raise UserError(f"{whole}: is not empty; choose another folder with --out")
            whole.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=f".{whole.name}.", dir=whole.parent) as unfinished:
                _write_run(run, Path(unfinished, "run"))
                Path(unfinished, "run").replace(whole)

    def _refuse_another_experiment(self, experiment: Experiment, file: str) -> None:
        try:
            text = files.content_of(self.folder / "run.json", most=MOST_PLAN)
            _refuse_newer(text, f"{self.folder}/run.json")
        except (OSError, ValueError):  # no run
            return
        try:
            before = KeptPlan.model_validate_json(text)
        except (ValidationError, UserError):  # none that is known
            return
        if before.file is None and before.experiment.question != experiment.question:
            told = f"which asks: {before.experiment.question}"
        elif before.file is not None and before.file != file:
            told = f"from the file {before.file}, seen from there" if before.file else "the one of the package"
        else:
            return
        raise UserError(
            f"{self.folder}: holds a run of another experiment named {experiment.name} ({told}); rename yours, or "
            "choose another folder with --results"
        )

    def append(self, record: Record) -> None:
        """Add one record; it is on disk when this returns, or not at all."""
        line, size = memoryview(record.model_dump_json().encode() + b"\n"), self._file.seek(0, os.SEEK_END)
        with self._writing():
            try:
                while line:
                    line = line[self._file.write(line) or 0 :]
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    self._file.truncate(size)
                raise

    def write(self, name: str, text: str) -> None:
        """Replace a file as a whole: it is the old one or the new one, never half of it."""
        unfinished = self.folder / f".{name.replace('/', '.')}.{os.getpid()}"
        with self._writing():
            try:
                (self.folder / name).parent.mkdir(exist_ok=True)
                unfinished.write_text(text, encoding="utf-8")
                unfinished.replace(self.folder / name)
            finally:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"cannot be written ({error.strerror}); choose another folder with --results"
            raise UserError(f"{self.folder}: {reason}") from error

    def finished(self, keys: Collection[str], *environments: Environment) -> dict[str, Record]:
        """The newest record of each of these cells that was measured in one of these environments."""
        wanted = set(keys)
        return {record.key: record for record in self._records(wanted) if record.environment in environments}

    def load(self, *, within: bool = False) -> Run:
        """The last run.

        Args:
            within: whether it is one of the runs that stand apart in another's folder.

        Raises:
            UserError: where there is none.
        """
        where = f"{self.folder}/run.json"
        try:
            text = files.content_of(self.folder / "run.json", most=MOST_PLAN)
        except OSError as error:
            raise UserError(f"{self.folder}: no run here ({error.strerror}: run.json)") from error
        _refuse_newer(text, where)
        try:
            plan = KeptPlan.model_validate_json(text)
        except (ValidationError, UserError) as error:
            raise UserError(f"{where}: not a run that this version can read") from error
        if within and plan.others:  # a link may lead back to where it stands
            raise UserError(f"{where}: a run within a run holds no others")
        finished = self.finished(plan.keys, plan.environment, *plan.pooled)
        rows = {row.content: row for row in plan.rows}
        records = tuple(finished[key].named_by(rows) for key in plan.keys if key in finished)
        return Run(
            plan=plan, records=records, others=tuple(Store(self.folder / n).load(within=True) for n in plan.others)
        )

    def _records(self, wanted: Collection[str]) -> Iterator[Record]:
        """The records of these cells. Lines that are none are counted and told; the last one may be being written.

        Raises:
            UserError: where the file cannot be read, or a newer version wrote a record.
        """
        path = self.folder / "records.jsonl"
        odd = []
        for number, line in enumerate(_lines(path), 1):
            record = _read(line)
            if record and record.key not in wanted:
                continue
            if record and _can_be_shown(record):
                yield record
            elif line.strip() and line.endswith(b"\n"):
                _refuse_newer(line, f"{path}, line {number}")
                odd.append(number)
        if odd:
            count = "1 line is" if len(odd) == 1 else f"{len(odd)} lines are"
            told = a_few([str(number) for number in odd])
            _tell(f"{path}: {count} no record that this version can read, and left out: {told}")


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


def _can_be_shown(record: Record) -> bool:
    """Whether the values are such as its meter gives."""
    try:
        if record.status == "ok":
            values.check(record.cell.meter, record.values)
    except ValueError:
        return False
    return True


def _read(line: bytes) -> Record | None:
    try:
        return Record.model_validate_json(line)
    except (ValidationError, UserError):
        return None


def _refuse_newer(text: str | bytes, where: str) -> None:
    """Refuse what a newer version of this package wrote.

    Raises:
        UserError: saying so.
    """
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        found = content.get("format") if isinstance(content, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise UserError(f"{where}: is of format {found}, and this version reads up to {FORMAT}; use a newer one")


@cache
def _tell(line: str) -> None:
    """Tell something about what is read, once."""
    print(line, file=sys.stderr, flush=True)


def _write_run(run: Run, folder: Path) -> None:
    folder.mkdir()
    names = tuple(f"timings-{number}" for number in range(2, len(run.others) + 2))
    plan = KeptPlan(**run.plan.model_dump() | {"others": names})
    (folder / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in run.records), encoding="utf-8")
    (folder / "run.json").write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    for name, other in zip(names, run.others, strict=True):
        _write_run(other, folder / name)


def runs_below(results: Path) -> Sequence[str]:
    """Names of the experiments that have results."""
    return sorted(path.parent.name for path in results.glob("*/run.json"))


def load_run(run: str | Path, results: Path) -> Run:
    """A run by its folder, or by its name below the results folder.

    Raises:
        UserError: where there is none.
    """
    for folder in (Path(run), results / run):
        if files.is_file(folder / "run.json"):
            return Store(folder).load()
    raise unknown("run", str(run), runs_below(results), where=str(results))
