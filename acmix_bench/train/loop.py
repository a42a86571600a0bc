"""Training, one loop for all: alone or on several devices, stopped and gone on with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from acmix_bench.backbones.saved import described, save_weights
from acmix_bench.data import Splits
from acmix_bench.errors import UserError
from acmix_bench.ops.mix import Mix
from acmix_bench.spec.recipe import Recipe
from acmix_bench.tasks import Batch, Job, Scores, Task
from acmix_bench.train import checkpoint, devices
from acmix_bench.train.batches import Drawn, in_turns, loaded, order_of, parts_of
from acmix_bench.train.optimizer import optimizer_of, schedule_of
from acmix_bench.train.step import OutOfMemory, step_of

TEST_BATCH = 256  # at most
SECONDS_BETWEEN_SAVES = 600.0
SECONDS_BETWEEN_READS = 1.0  # of the losses of an accelerator, which has to be waited for


class Diverged(Exception):
    """The run went on, but its loss is no longer finite: a result, not a crash."""


@dataclass(kw_only=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        scores: what the model gets right, as its task says it; the first is compared.
        waited: share of the time in which training waited for images.
        mixing: each mixing layer's factors of attention and convolution.
    """

    loss: float
    scores: Scores
    images_per_second: float
    waited: float
    learning_rate: float
    mixing: list[list[float]]

    @property
    def score(self) -> float:
        """The score that is compared; what is not known is worst."""
        first = next(iter(self.scores.values()))
        return -math.inf if first is None else first


@dataclass(kw_only=True)
class Progress:
    """How far training is: updates made, the loss summed over those of this epoch, and the epochs before it."""

    update: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    parts: int = 1
    epochs: list[Epoch] = field(default_factory=list)


Report = Callable[[Progress, int, float], None]
Say = Callable[[str], None]


def train(
    model: nn.Module,
    splits: Splits,
    job: Job,
    task: Task,
    *,
    folder: Path | None = None,
    begun: Mapping[str, Any] | None = None,
    keep_weights: bool = True,
    report: Report = lambda *_: None,
    say: Say = lambda _: None,
    is_ending: Callable[[], bool] = lambda: False,
    seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
) -> list[Epoch]:
    """Train a model, and score it on the test images after every epoch.

    Where memory runs out an update is made again in twice as many passes of half as many images.

    Args:
        folder: where checkpoints are kept; nothing is kept where not given.
        begun: what the checkpoint holds to go on from.
        keep_weights: whether the folder gets weights, and a checkpoint, after every epoch; else checkpoints come as
            time goes by, and training goes on where one cannot be written.
        report: gets the progress, the updates of an epoch, and the loss of the last one.
        say: gets what a person must know.
        is_ending: whether to stop after this update, with a checkpoint.

    Raises:
        Diverged: where the loss is no longer finite.
        KeyboardInterrupt: where it was to stop.
        UserError: where the data set and the recipe do not fit, a picture cannot be read, a checkpoint cannot be
            read or written, or memory runs out for a single image.
    """
    recipe, weight = job.recipe, next(model.parameters())
    updates = updates_of(len(splits.train), recipe)  # type: ignore[arg-type]
    if recipe.sync_norm and devices.world() > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = optimizer_of(model, recipe)
    schedule = schedule_of(optimizer, recipe, updates * recipe.epochs)
    scaler = torch.amp.GradScaler(weight.device.type, enabled=job.half)
    average = ModelEmaV3(model, recipe.ema) if recipe.ema else None
    progress = Progress(parts=recipe.accumulate)

    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scaler": scaler}
    parts |= {"average": average.module} if average else {}
    if begun is not None:
        path = (folder or Path()) / checkpoint.LAST
        try:
            for name, part in parts.items():
                part.load_state_dict(begun[name])
            progress = TypeAdapter(Progress).validate_python(begun["progress"])
        except Exception as error:  # torch's parts raise whatever a state that is not theirs leads them to
            raise checkpoint.broken(path) from error
        if progress.update < 0 or progress.parts < 1 or progress.update // updates != len(progress.epochs):
            raise checkpoint.broken(path)
        done, epoch = progress.update % updates, len(progress.epochs) + 1
        say("was finished" if epoch > recipe.epochs else f"goes on after update {done} of {updates} in epoch {epoch}")

    def save() -> None:
        if not folder or devices.rank():
            return
        states = {name: part.state_dict() for name, part in parts.items()}
        try:
            checkpoint.save(folder / checkpoint.LAST, {"plan": job.plan, "progress": asdict(progress), **states})
        except UserError as error:
            if keep_weights:
                raise
            say(f"goes on without a checkpoint: {error}")

    step = step_of(model, optimizer, scaler, job, task)
    scored, saved = average.module if average else model, time.monotonic()
    losses: list[Tensor] = []  # of the last updates, not read yet
    loss, read = math.nan, -math.inf
    while len(progress.epochs) < recipe.epochs:
        model.train()
        try:
            for batches, waited in _updates(splits, job, task, progress, updates, weight):
                clock = time.monotonic()
                schedule.step_update(progress.update)
                losses.append(step(batches, progress.update))
                progress.update += 1
                ended = progress.update % updates == 0
                if not devices.runs_ahead(weight.device) or ended or clock - read > SECONDS_BETWEEN_READS:
                    loss, read = _summed(losses, progress, updates, recipe.epochs), time.monotonic()
                if average:
                    average.update(model)
                progress.waited += waited
                progress.seconds += waited + time.monotonic() - clock
                report(progress, updates, loss)
                if ended:
                    progress.epochs.append(_scored(scored, splits, job, task, progress, updates, optimizer))
                    progress.loss = progress.seconds = progress.waited = 0.0
                    model.train()
                    if keep_weights:
                        _keep(scored, splits, job, progress, folder)
                    report(progress, updates, loss)
                ends = is_ending()
                if ends or (ended and keep_weights) or time.monotonic() - saved > seconds_between_saves:
                    if losses:
                        loss = _summed(losses, progress, updates, recipe.epochs)
                    save()
                    saved = time.monotonic()
                if ends:
                    raise KeyboardInterrupt
        except OutOfMemory as error:
            progress.parts *= 2
            if devices.world() > 1 or recipe.train_batch % progress.parts:
                raise UserError(f"memory runs out with train_batch={recipe.train_batch}; set a smaller one") from error
            each = recipe.train_batch // progress.parts
            say(f"memory ran out: from here {progress.parts} passes an update, of {each} images each")
    return progress.epochs


def _summed(losses: list[Tensor], progress: Progress, updates: int, epochs: int) -> float:
    """Read the losses of the last updates, add them to those of the epoch, and give the last one.

    Raises:
        Diverged: where one of them is not finite, naming its update.
    """
    read = torch.stack(losses).tolist()
    losses.clear()
    for place, loss in enumerate(read, progress.update - len(read)):
        if not math.isfinite(loss):
            where = f"update {place % updates + 1}, epoch {place // updates + 1}"
            raise Diverged(f"loss is {loss} in {where} of {epochs}")
        progress.loss += loss
    return float(read[-1])


def updates_of(images: int, recipe: Recipe) -> int:
    """Updates of an epoch.

    Raises:
        UserError: where a batch is no whole number of images for each process and pass, or there are too few images.
    """
    passes = recipe.accumulate * devices.world()
    if recipe.train_batch % passes:
        raise UserError(
            f"train_batch={recipe.train_batch} cannot be shared by {devices.world()} processes with "
            f"accumulate={recipe.accumulate}: it must be a multiple of {passes}"
        )
    if recipe.train_batch > images:
        raise UserError(
            f"train_batch={recipe.train_batch}: there are only {images} images to train on; set a smaller one"
        )
    if (recipe.mixup or recipe.cutmix) and (recipe.train_batch // passes) % 2:
        raise UserError(f"train_batch={recipe.train_batch}: Mixup needs an even number of images a pass")
    return images // recipe.train_batch


def _updates(
    splits: Splits, job: Job, task: Task, progress: Progress, updates: int, weight: Tensor
) -> Iterator[tuple[list[Batch], float]]:
    """The batches of each update that is left, and how long they were waited for."""
    recipe, count = job.recipe, len(splits.train)  # type: ignore[arg-type]
    first, parts = progress.update, progress.parts

    def keys() -> Iterator[list[Any]]:
        for epoch in range(first // updates, recipe.epochs):
            order = order_of(count, job.seed, epoch, recipe.repeats)
            for update in range(first % updates if epoch == first // updates else 0, updates):
                yield from parts_of(order, update, recipe.train_batch, parts, devices.rank(), devices.world())

    drawn = Drawn(splits.train, task.transform(job, splits, trains=True), task.collate, job.seed)
    batches = loaded(drawn, keys(), job.workers, devices.pins_memory(weight.device))
    for _ in range(first, updates * recipe.epochs):
        clock = time.monotonic()
        found = [next(batches) for _ in range(parts)]
        yield found, time.monotonic() - clock


def _scored(
    model: nn.Module,
    splits: Splits,
    job: Job,
    task: Task,
    progress: Progress,
    updates: int,
    optimizer: torch.optim.Optimizer,
) -> Epoch:
    """What the epoch that has just ended gave."""
    return Epoch(
        loss=progress.loss / updates,
        scores=task.evaluate(model, test_batches(model, splits, job, task), job),
        images_per_second=updates * job.recipe.train_batch / progress.seconds,
        waited=progress.waited / progress.seconds,
        learning_rate=optimizer.param_groups[0]["lr"],
        mixing=[[weight.item() for weight in mix.weights()] for mix in model.modules() if isinstance(mix, Mix)],
    )


def test_batches(model: nn.Module, splits: Splits, job: Job, task: Task, *, batch: int = TEST_BATCH) -> Iterator[Batch]:
    """The test images, each seen once, by one of the processes."""
    weight = next(model.parameters())
    drawn = Drawn(splits.test, task.transform(job, splits, trains=False), task.collate)
    keys = in_turns(len(splits.test), batch, devices.rank(), devices.world())  # type: ignore[arg-type]
    return loaded(drawn, keys, job.workers, devices.pins_memory(weight.device))


def _keep(model: nn.Module, splits: Splits, job: Job, progress: Progress, folder: Path | None) -> None:
    """Leave the weights of the last epoch, and of the best."""
    if not folder or devices.rank():
        return
    name, place = str(job.plan.get("model", "")), str(job.plan.get("data", ""))
    told = described(model=name, data=place, image_size=job.image_size, recipe=job.recipe, splits=splits)
    best = progress.epochs[-1].score >= max(epoch.score for epoch in progress.epochs)
    for file in (checkpoint.WEIGHTS, *([checkpoint.BEST] if best else [])):
        save_weights(model.state_dict(), folder / file, told | {"epoch": str(len(progress.epochs))})
