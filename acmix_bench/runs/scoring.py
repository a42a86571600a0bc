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
from acmix_bench.meters.accuracy import job_of
from acmix_bench.meters.conditions import use_threads
from acmix_bench.meters.subject import Subject
from acmix_bench.runs.bar import Bar
from acmix_bench.runs.process import keep_sockets_short
from acmix_bench.spec.cell import Cell
from acmix_bench.train import devices
from acmix_bench.train.evaluate import Scores
from acmix_bench.train.loop import test
from acmix_bench.train.step import Job


def score(cell: Cell, weights: Path, *, batch: int) -> tuple[Scores, Splits, str]:
    """Score a cell's model with weights, and give the data set, and where in their file the weights stood.

    Raises:
        UserError: where the data set or the weights cannot be read or do not fit, memory runs out, or the model's
            answers are not finite.
    """
    case = cell.row.case
    if backbones.is_single_operator(case.backbone):
        raise UserError(f"{cell.row.label} is an operator alone; it has no classes")
    keep_sockets_short()
    use_threads(cell.protocol["threads"])
    subject = Subject.of(cell)
    splits = data.load(case.data, case.image_size, cell.protocol["data_root"])
    model = subject.build()
    told = load_weights(model, weights, model_name=cell.row.label)
    model, images = subject.prepare(model.eval()), len(splits.test)  # type: ignore[arg-type]
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


def _tell_batch(batch: int) -> None:
    print(f"memory ran out: goes on with {batch} images a batch", file=sys.stderr, flush=True)


def _scored(model: nn.Module, splits: Splits, job: Job, images: int, batch: int) -> Scores:
    with Bar("images") as bar:
        return test(model, splits, job, batch=batch, report=lambda done: bar.show(done, images))
