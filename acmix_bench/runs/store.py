"""The store under results/<experiment>/: records and the plan of the last run.

A record is one line of `records.jsonl`, on disk before the next cell starts. `run.json` holds the plan of the last run,
so that a table shows that run's cells and no others.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from acmix_bench import files, meters
from acmix_bench.errors import UserError, unknown
from acmix_bench.runs import journal
from acmix_bench.runs.environment import Environment
from acmix_bench.runs.journal import RECORDS
from acmix_bench.runs.record import KeptPlan, Plan, Record, Run
from acmix_bench.spec.experiment import Experiment

MOST_PLAN = 256 * 2**20  # bytes of run.json


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
            self._file = files.opened_to_append(self.folder / RECORDS)
        with self._file:
            with self._writing():
                # `is_being_written` holds it for an instant.
                if not journal.is_locked(self._file.fileno(), fcntl.LOCK_EX, patience=0.5):
                    raise UserError(f"{self.folder}: another run is writing here; wait for it")
                journal.set_aside_torn_line(self._file, self.folder)
            self._seen = seen
            self.keep_plan(plan)
            yield

    def is_being_written(self) -> bool:
        """Whether somebody holds the lock; one who was killed does not.

        Raises:
            UserError: where the records cannot be read.
        """
        try:
            with files.opened(self.folder / RECORDS) as file:
                return not journal.is_locked(file.fileno(), fcntl.LOCK_SH)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be read ({error.strerror})") from error

    @property
    def length(self) -> int:
        """Of the records, in bytes: more than before where somebody has written meanwhile."""
        try:
            return (self.folder / RECORDS).stat().st_size
        except OSError:
            return 0

    def keep_plan(self, plan: Plan) -> None:
        """Write down the plan of the run that is open."""
        kept = KeptPlan(**plan.model_dump(), keys=tuple(cell.key for cell in plan.cells), file=self._seen)
        self.write("run.json", kept.model_dump_json(indent=1))

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
            journal.refuse_newer(text, f"{self.folder}/run.json")
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
        with self._writing():
            journal.append(self._file, record)

    @property
    def checkpoints(self) -> Path:
        """Where cells that are not finished keep what they go on from, each in a folder by its key."""
        return self.folder / "checkpoints"

    def forget(self, keys: Collection[str] | None = None) -> None:
        """Remove the checkpoints of cells; of all that ever were, where none are named."""
        with suppress(OSError):
            for folder in list(self.checkpoints.iterdir()):
                if keys is None or folder.name in keys:
                    shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others are left, or there were none
            self.checkpoints.rmdir()

    def write(self, name: str, text: str) -> None:
        """Replace a file as a whole: it is the old one or the new one, never half of it."""
        unfinished = self.folder / f".{name.replace('/', '.')}"  # nobody else writes; what a kill left is written over
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

    def finished(self, keys: Collection[str], environment: Environment, *pooled: Environment) -> dict[str, Record]:
        """The newest record of each of these cells that was measured in one of these environments.

        Of what must be alone, that of the first environment stands where there is one. No timing is from another.
        """
        return {key: record for key, (_, record) in self.placed(keys, environment, *pooled).items()}

    def placed(
        self, keys: Collection[str], environment: Environment, *pooled: Environment
    ) -> dict[str, tuple[int, Record]]:
        """These records, and the byte of the file where each begins."""
        found = dict[str, tuple[int, Record]]()
        for place, record in journal.read(self.folder / RECORDS, set(keys)):
            if record.environment != environment:
                if record.environment not in pooled:
                    continue
                meter, before = meters.find(record.cell.meter), found.get(record.key)
                stands = meter.must_be_alone and before is not None and before[1].environment == environment
                if stands or (meter.is_timing and record.status == "ok"):
                    continue
            found[record.key] = place, record
        return found

    def measured(self, keys: Collection[str]) -> list[Record]:
        """Every record of these cells, wherever it was measured."""
        return [record for _, record in journal.read(self.folder / RECORDS, set(keys))]

    def plan(self, *, within: bool = False) -> KeptPlan:
        """The plan of the last run.

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
        journal.refuse_newer(text, where)
        try:
            plan = KeptPlan.model_validate_json(text)
        except (ValidationError, UserError) as error:
            raise UserError(f"{where}: not a run that this version can read") from error
        if within and plan.others:  # a link may lead back to where it stands
            raise UserError(f"{where}: a run within a run holds no others")
        return plan

    def load(self, *, within: bool = False) -> Run:
        """The last run; `within` as for `plan`.

        Raises:
            UserError: where there is none.
        """
        plan = self.plan(within=within)
        finished = self.finished(plan.keys, plan.environment, *plan.pooled)
        rows = {row.content: row for row in plan.rows}
        records = tuple(finished[key].named_by(rows) for key in plan.keys if key in finished)
        return Run(
            plan=plan, records=records, others=tuple(Store(self.folder / n).load(within=True) for n in plan.others)
        )


def _write_run(run: Run, folder: Path) -> None:
    folder.mkdir()
    names = tuple(f"timings-{number}" for number in range(2, len(run.others) + 2))
    plan = KeptPlan(**run.plan.model_dump() | {"others": names})
    (folder / RECORDS).write_text("".join(r.model_dump_json() + "\n" for r in run.records), encoding="utf-8")
    (folder / "run.json").write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    for name, other in zip(names, run.others, strict=True):
        _write_run(other, folder / name)


def runs_below(results: Path) -> Sequence[str]:
    """Names of the experiments that have results."""
    return sorted(path.parent.name for path in results.glob("*/run.json"))


def folder_of(run: str | Path, results: Path) -> Path:
    """The folder of a run by itself, or by its name below the results folder.

    Raises:
        UserError: where there is none.
    """
    for folder in (Path(run), results / run):
        if files.is_file(folder / "run.json"):
            return folder
    raise unknown("run", str(run), runs_below(results), where=str(results))


def load_run(run: str | Path, results: Path) -> Run:
    """A run by its folder, or by its name below the results folder.

    Raises:
        UserError: where there is none.
    """
    return Store(folder_of(run, results)).load()
