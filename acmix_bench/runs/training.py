"""A training that somebody watches: progress, checkpoints, weights and a log in a folder, on one device or several."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from acmix_bench import data
from acmix_bench.backbones.saved import write
from acmix_bench.backbones.weights import load_weights
from acmix_bench.data import Splits
from acmix_bench.errors import Terminated, UserError
from acmix_bench.meters import numerics
from acmix_bench.meters.accuracy import job_of
from acmix_bench.meters.conditions import use_threads
from acmix_bench.meters.subject import Subject, try_out
from acmix_bench.runs.bar import Bar
from acmix_bench.runs.process import keep_sockets_short
from acmix_bench.spec.cell import Cell
from acmix_bench.tasks import Scores
from acmix_bench.tasks import find as find_task
from acmix_bench.train import checkpoint, devices
from acmix_bench.train.loop import Epoch, Progress, train

LOG = "log.csv"
TITLES = {"top1": "top-1", "miou": "mIoU", "box_ap": "box AP"}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What somebody asks of a training beside what it is.

    Attributes:
        folder: where checkpoints, weights and the log are kept; nothing is kept without.
        resume: go on from the checkpoint in the folder.
        download: fetch a data set that is not there.
        weights: start from these; `new_head` leaves out those of the classes, and for a dense task they are those of
            its backbone as a classifier.
        tensorboard: log for TensorBoard too.
    """

    folder: Path | None = None
    resume: bool = False
    download: bool = False
    weights: Path | None = None
    new_head: bool = False
    tensorboard: bool = False


def train_watched(cell: Cell, model_name: str, wishes: Wishes) -> list[Epoch]:
    """Train a cell in this process, which torchrun may have started with others. Process 0 speaks and writes.

    A first Ctrl-C, or a SIGTERM, ends it after the update that runs, with a checkpoint; a second one at once.

    Raises:
        Diverged: where the loss is no longer finite.
        KeyboardInterrupt: where it was ended.
        UserError: where the cell cannot be, the folder holds another training, or what is asked for does not fit.
    """
    numerics.hold(cell.protocol)
    device = devices.join(cell.protocol["device"])
    cell = cell.model_copy(update={"protocol": cell.protocol | {"device": device}})
    try:
        devices.use(device)
        return _trained(cell, model_name, wishes)
    finally:
        devices.leave()


def _trained(cell: Cell, model_name: str, wishes: Wishes) -> list[Epoch]:
    folder = wishes.folder
    keep_sockets_short()
    use_threads(max(1, cell.protocol["threads"] // devices.on_this_machine()))
    if folder:
        _prepare(folder, resume=wishes.resume)
    elif wishes.resume or wishes.tensorboard:
        raise UserError(f"--{'resume' if wishes.resume else 'tensorboard'}: say which folder with --out")
    subject, splits = Subject.of(cell), _splits(cell, download=wishes.download)
    try_out(cell, splits)
    start = partial(load_weights, path=wishes.weights, new_head=wishes.new_head) if wishes.weights else None
    # A new head stands on the stages of a classifier; without one the weights are the whole model's.
    begins_as_classifier = wishes.new_head or not subject.case.head
    model = subject.build_to_train(start=start if begins_as_classifier else None)
    if start and not begins_as_classifier:
        start(model)
    model, job = subject.prepare(model.train()), job_of(subject, splits, model_name)
    begun = checkpoint.load(folder / checkpoint.LAST, job.plan) if folder and wishes.resume else None
    with _Watcher(job.recipe.epochs, wishes) as watcher, _stopping_gently() as is_ending:
        if splits.told:
            watcher.say(splits.told)
        return train(
            model,
            splits,
            job,
            find_task(subject.task),
            folder=folder,
            begun=begun,
            report=watcher.report,
            say=watcher.say,
            is_ending=is_ending,
        )


def _splits(cell: Cell, *, download: bool) -> Splits:
    """The cell's data set; where it is to be downloaded, one process does so, and the others wait for it."""
    load = partial(data.load, cell.row.case.data, cell.row.case.image_size, cell.protocol["data_root"])
    fetched = load(download=True) if download and devices.rank() == 0 else None
    devices.wait()
    return fetched or load()


def _prepare(folder: Path, *, resume: bool) -> None:
    """Make the folder, and refuse to write over another training."""
    if not resume and (folder / checkpoint.LAST).exists() and devices.rank() == 0:
        raise UserError(f"{folder}: holds a training; --resume goes on with it, or choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error


@contextmanager
def _stopping_gently() -> Iterator[Any]:
    """Take note of the first Ctrl-C or SIGTERM, and give the way back to what was for the second.

    Python takes signals in the main thread only; in another one they stay what they are.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note_it(number: int, _: Any) -> None:
        asked.append(number)
        for one, handler in before.items():
            signal.signal(one, handler)

    before = {one: signal.signal(one, note_it) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt as error:
        if signal.SIGTERM in asked:
            raise Terminated from error
        raise
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class _Watcher:
    """Tells how training goes: a bar, and a line an epoch; and keeps the log."""

    def __init__(self, epochs: int, wishes: Wishes) -> None:
        self._epochs, self._folder = epochs, wishes.folder
        self._speaks = devices.rank() == 0
        self._bar = Bar("updates", is_silent=not self._speaks)
        self._epochs_told: int | None = None
        self._board = _board(wishes) if self._speaks else None

    def __enter__(self) -> _Watcher:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()
        if self._board:
            self._board.close()

    def report(self, progress: Progress, updates: int, loss: float) -> None:
        """An update is made, or an epoch scored."""
        if not self._speaks:
            return
        if self._epochs_told is not None and len(progress.epochs) > self._epochs_told:
            self._tell(progress.epochs, updates)
        else:
            epoch = min(self._epochs, progress.update // updates + 1)
            self._bar.show(progress.update, updates * self._epochs, f"epoch {epoch}, loss {loss:.4f}")
        self._epochs_told = len(progress.epochs)

    def _tell(self, epochs: list[Epoch], updates: int) -> None:
        last = epochs[-1]
        waited = f", {100 * last.waited:.0f} % of it waiting for images" if last.waited > 0.05 else ""
        self.say(
            f"epoch {len(epochs)}: loss {last.loss:.4f}, {told(last.scores)}, "
            f"{last.images_per_second:.0f} images/s{waited}"
        )
        if self._folder:
            write(self._folder / LOG, lambda path: _write_log(path, epochs))
        for name, value in _row(last).items():
            if self._board and value is not None:
                self._board.add_scalar(name, value, len(epochs) * updates)

    def say(self, line: str) -> None:
        """Tell a line, above the bar."""
        if self._speaks:
            self._bar.say(line)


def _row(epoch: Epoch) -> dict[str, Any]:
    """An epoch's line in the log. `alpha_1`, `beta_1` are the factors of the first layer that mixes, and so on."""
    mixing = {
        f"{name}_{layer}": value
        for layer, pair in enumerate(epoch.mixing, 1)
        for name, value in zip(("alpha", "beta"), pair, strict=True)
    }
    how = {"learning_rate": epoch.learning_rate, "images_per_second": epoch.images_per_second}
    return {"loss": epoch.loss, **epoch.scores, **how, "waited_share": epoch.waited, **mixing}


def told(scores: Scores) -> str:
    """The score that is compared, for people."""
    name, value = next(iter(scores.items()))
    return f"{TITLES.get(name, name)} {'-' if value is None else f'{100 * value:.2f} %'}"


def _write_log(path: Path, epochs: list[Epoch]) -> None:
    """All epochs as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *_row(epochs[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": number, **_row(epoch)} for number, epoch in enumerate(epochs, 1))


def _board(wishes: Wishes) -> Any:
    """A writer of TensorBoard's files.

    Raises:
        UserError: where TensorBoard is not installed.
    """
    if not wishes.tensorboard or not wishes.folder:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard: is not installed; pip install 'acmix-bench[tensorboard]'") from error
    return SummaryWriter(str(wishes.folder / "tensorboard"))
