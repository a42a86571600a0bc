"""What was measured: the environment, the record, and the store under results/<experiment>/.

A record is one line of `records.jsonl`, on disk before the next cell starts. `run.json` holds the plan of the last
run, so that a table shows that run's cells and no others. Nothing here imports torch.
"""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from acmix_bench.errors import UserError
from acmix_bench.spec import Cell, Experiment, Row, Value, cells_of

Status = Literal["ok", "diverged", "crashed", "timeout"]


class Environment(Value):
    """The machine and the software that a number depends on."""

    cpu: str
    cores: int
    memory_gib: int
    system: str
    kernel: str
    python: str
    torch: str
    gpu: str | None

    def __str__(self) -> str:
        gpu = f", {self.gpu}" if self.gpu else ""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib} GiB{gpu}, {self.system}, "
            f"Python {self.python}, torch {self.torch}"
        )


def this_environment() -> Environment:
    """Read this machine."""
    return Environment(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        python=platform.python_version(),
        torch=version("torch"),
        gpu=_gpu_name(),
    )


class State(Value):
    """What may change from one measurement to the next: hints for reading a number, not part of the environment."""

    load: float
    mhz: float | None
    commit: str | None


def machine_state() -> State:
    """The load of the last minute, the cores' mean clock rate, and the git commit of this code, + if it was changed."""
    rates = _cpu_info("cpu MHz")
    mhz = sum(map(float, rates)) / len(rates) if rates else None
    return State(load=os.getloadavg()[0], mhz=mhz, commit=_commit())


class Record(Value):
    """A cell, where and when it ran, and its raw values or the reason why there are none."""

    key: str
    cell: Cell
    environment: Environment
    started: str
    seconds: float
    state: State
    status: Status
    reason: str | None = None
    values: dict[str, Any] = {}

    @property
    def is_result(self) -> bool:
        """Whether this answers the cell; a crash or a timeout is tried again by the next run."""
        return self.status in ("ok", "diverged")


class Plan(Value):
    """What a run set out to measure, and where."""

    experiment: Experiment
    rows: tuple[Row, ...]
    code: dict[str, str]
    environment: Environment

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells in the order in which they are measured."""
        return cells_of(self.rows, self.experiment.meters, self.experiment.protocol, self.code)


class KeptPlan(Plan):
    """A plan as it stands in `run.json`, with the keys of its cells as the version gave them that measured them.

    A version with more axes would give others, and still can read what was measured.
    """

    keys: tuple[str, ...]


class Run(Value):
    """A plan with the records that exist of it: what the views read."""

    plan: Plan
    records: tuple[Record, ...]


class Store:
    """The folder of one experiment. Records are appended, everything else is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def opened(self, plan: Plan) -> Iterator[None]:
        """Make the folder, keep others out, and write down the plan.

        Raises:
            UserError: where the folder cannot be written, or another run is writing to it.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / "records.jsonl").open("a+b")
        with self._file:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.folder}: another run is writing here; wait for it") from error
            kept = KeptPlan(**plan.model_dump(), keys=tuple(cell.key for cell in plan.cells))
            self.write("run.json", kept.model_dump_json(indent=1))
            yield

    def append(self, record: Record) -> None:
        """Add one record; it is on disk when this returns. A line cut short by a kill is closed first."""
        with self._writing():
            size = self._file.seek(0, os.SEEK_END)
            self._file.seek(max(0, size - 1))
            cut_short = size and self._file.read(1) != b"\n"
            self._file.write(b"\n" * cut_short + record.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, name: str, text: str) -> None:
        """Replace a file as a whole: it is the old one or the new one, never half of it."""
        with self._writing():
            unfinished = self.folder / f".{name}.{os.getpid()}"
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self.folder / name)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"cannot be written ({error.strerror}); choose another folder with --results"
            raise UserError(f"{self.folder}: {reason}") from error

    def finished(self, keys: Collection[str], environment: Environment) -> dict[str, Record]:
        """The newest record of each of these cells that was measured in this environment."""
        wanted = set(keys)
        return {
            record.key: record
            for record in self._records()
            if record.key in wanted and record.environment == environment
        }

    def load(self) -> Run:
        """The last run.

        Raises:
            UserError: where there is none.
        """
        try:
            plan = KeptPlan.model_validate_json((self.folder / "run.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{self.folder}: no run here ({error.strerror}: run.json)") from error
        except (ValidationError, UserError) as error:
            raise UserError(f"{self.folder}/run.json: not a run that this version can read") from error
        finished = self.finished(plan.keys, plan.environment)
        return Run(plan=plan, records=tuple(_labelled(finished[key], plan) for key in plan.keys if key in finished))

    def _records(self) -> Iterator[Record]:
        """Every whole line; one that a kill cut short, or that an older version wrote, is passed over."""
        try:
            content = (self.folder / "records.jsonl").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be read ({error.strerror})") from error
        for line in content.split(b"\n"):
            try:
                yield Record.model_validate_json(line)
            except (ValidationError, UserError):
                continue


def _labelled(record: Record, plan: Plan) -> Record:
    """The record in the plan's row: it may be from a run that had another name for it."""
    if record.cell.row in plan.rows:
        return record
    row = next(row for row in plan.rows if row.content == record.cell.row.content)
    return record.model_copy(update={"cell": record.cell.model_copy(update={"row": row})})


def runs_below(results: Path) -> Sequence[str]:
    """Names of the experiments that have results."""
    return sorted(path.parent.name for path in results.glob("*/run.json"))


def _cpu_name() -> str:
    names = _cpu_info("model name")
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_info(key: str) -> list[str]:
    """What Linux says of each core."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]


@cache
def _commit() -> str | None:
    """The commit of the checkout that this package lies in, where it lies in one."""
    here = Path(__file__).parent
    try:
        head = _git("rev-parse", "--short=12", "HEAD", folder=here)
        changed = _git("status", "--porcelain", "--untracked-files=no", folder=here)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed)


def _git(*arguments: str, folder: Path) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _gpu_name() -> str | None:
    """The first NVIDIA GPU as its driver reports it, without loading torch."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return None
