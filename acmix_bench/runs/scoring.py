"""Weights scored on the test images of a data set, in this process, for somebody who watches."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from torch import nn

from acmix_bench import backbones, data
from acmix_bench.backbones.weights import load_weights
from acmix_bench.data import Splits
from acmix_bench.errors import UserError
from acmix_bench.meters import numerics
from acmix_bench.meters.accuracy import job_of
from acmix_bench.meters.conditions import use_threads
from acmix_bench.meters.subject import Subject
from acmix_bench.runs.bar import Bar
from acmix_bench.runs.process import keep_sockets_short
from acmix_bench.spec.cell import Cell
from acmix_bench.tasks import Job, Task, classify, find
from acmix_bench.tasks import Scores as Numbers
from acmix_bench.tasks.classify import Scores
from acmix_bench.train import devices
from acmix_bench.train.loop import test_batches


def score(cell: Cell, weights: Path, *, batch: int) -> tuple[Scores | Numbers, Splits, str]:
    """Score a cell's model with weights, and give the data set, and where in their file the weights stood.

    The scores of a dense task are numbers by name.

    Raises:
        UserError: where the data set or the weights cannot be read or do not fit, memory runs out, or the model's
            answers are not finite.
    """
    case = cell.row.case
    if backbones.is_single_operator(case.backbone):
        raise UserError(f"{cell.row.label} is an operator alone; it has no classes")
    keep_sockets_short()
    numerics.hold(cell.protocol)
    devices.refuse_dtype(devices.use(cell.protocol["device"]), cell.protocol["dtype"])
    use_threads(cell.protocol["threads"])
    subject = Subject.of(cell)
    splits = data.load(case.data, case.image_size, cell.protocol["data_root"])
    model = subject.build_to_train()
    told = load_weights(model, weights, model_name=cell.row.label)
    model, images = subject.prepare(model.eval()), len(splits.test)  # type: ignore[arg-type]
    if subject.case.head:
        return _dense(model, splits, job_of(subject, splits), find(subject.task)), splits, told
    scored = partial(_scored, model, splits, job_of(subject, splits), images)
    try:
        scores = devices.halving(scored, batch, _tell_batch)
    except Exception as error:
        if devices.ran_out_of_memory(error):
            raise UserError("memory runs out for a single image") from error
        raise
    if scores.not_finite:
        raise UserError(
            f"{weights}: the model's answers to {scores.not_finite} of {images} images are not finite in "
            f"dtype={cell.protocol['dtype']}"
        )
    return scores, splits, told


def _dense(model: nn.Module, splits: Splits, job: Job, task: Task) -> Numbers:
    images = len(splits.test)  # type: ignore[arg-type]
    with Bar("images") as bar:
        batches = test_batches(model, splits, job, task, batch=1)
        return task.evaluate(model, batches, job, lambda done: bar.show(done, images))


def _tell_batch(batch: int) -> None:
    print(f"memory ran out: goes on with {batch} images a batch", file=sys.stderr, flush=True)


def _scored(model: nn.Module, splits: Splits, job: Job, images: int, batch: int) -> Scores:
    with Bar("images") as bar:
        return classify.score(
            model,
            test_batches(model, splits, job, classify, batch=batch),
            classes=job.classes,
            autocast=job.autocast,
            report=lambda done: bar.show(done, images),
        )
