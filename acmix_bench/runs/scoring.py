"""Weights scored on the test images of a data set, in this process, for somebody who watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import nn

from acmix_bench import backbones, data
from acmix_bench.backbones.weights import load_weights
from acmix_bench.data import Splits
from acmix_bench.errors import UserError
from acmix_bench.meters.accuracy import job_of
from acmix_bench.meters.conditions import use_threads
from acmix_bench.meters.subject import Subject
from acmix_bench.runs.process import keep_sockets_short
from acmix_bench.spec.cell import Cell
from acmix_bench.train import devices
from acmix_bench.train.evaluate import Scores
from acmix_bench.train.loop import test
from acmix_bench.train.step import Job

SECONDS_BETWEEN_LINES = 30


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
    with _watched(images) as report:
        return test(model, splits, job, batch=batch, report=report)


@contextmanager
def _watched(images: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line now and then; gives what is to be told how many images are done."""
    console, last = Console(stderr=True), time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=images)

        def report(done: int) -> None:
            nonlocal last
            bar.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - last > SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                print(f"{done} of {images} images", file=sys.stderr, flush=True)

        yield report
