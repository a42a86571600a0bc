"""Top-1 after training."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from acmix_bench import data
from acmix_bench.cores import usable_cores
from acmix_bench.data import Splits
from acmix_bench.errors import UserError
from acmix_bench.meters.subject import Subject
from acmix_bench.spec.recipe import DenseRecipe, Recipe
from acmix_bench.tasks import Job, Scores, Task, classify
from acmix_bench.train import checkpoint, devices
from acmix_bench.train.loop import train

SECONDS_BETWEEN_SAVES = 30.0
FORMAT = 2  # of what a checkpoint says of its epochs


def measure(subject: Subject) -> dict[str, Any]:
    """Train from the subject's seed, and score what it has learned: top-1 of the last epoch and of each.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    scores, more = trained(subject, classify)
    by_epoch = [each["top1"] for each in scores]
    return {"accuracy": by_epoch[-1], "accuracy_by_epoch": by_epoch, **more}


def trained(subject: Subject, task: Task) -> tuple[list[Scores], dict[str, Any]]:
    """Train from the subject's seed, which sets the initialisation, the order of the images and all that is drawn.

    In the subject's folder a checkpoint is kept, from which a killed training goes on as if it had never stopped.

    Returns:
        The task's scores of each epoch; and what else there is to record: of each epoch the loss, and each mixing
        layer's factors of attention and convolution.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    protocol = subject.protocol
    splits = data.load(subject.case.data, subject.case.image_size, protocol["data_root"])
    folder, job = subject.folder, job_of(subject, splits)
    job.plan["software"] = f"Python {platform.python_version()}, torch {torch.__version__}"
    epochs = train(
        subject.build_to_train().train(),
        splits,
        job,
        task,
        folder=folder,
        begun=_begun(folder / checkpoint.LAST, job) if folder else None,
        keep_weights=False,
        say=print,
        seconds_between_saves=SECONDS_BETWEEN_SAVES,
    )
    return [epoch.scores for epoch in epochs], {
        "test_images": len(splits.test),  # type: ignore[arg-type]
        "loss_by_epoch": [epoch.loss for epoch in epochs],
        "mixing_weights": epochs[-1].mixing,
        "mixing_by_epoch": [epoch.mixing for epoch in epochs],
        "told": splits.told,
    }


def _begun(path: Path, job: Job) -> dict[str, Any] | None:
    """What the checkpoint of this training holds; of one that is broken or another's, say so and start anew."""
    if not path.exists():
        return None
    try:
        return checkpoint.load(path, job.plan)
    except UserError as error:
        print(f"starts anew: {error}", flush=True)
        return None


def job_of(subject: Subject, splits: Splits, model_name: str = "") -> Job:
    """How a subject is trained, and the plan that a checkpoint of it must share."""
    protocol, case = subject.protocol, subject.case
    kind = DenseRecipe if case.head else Recipe
    fields = {key: protocol[key] for key in kind.model_fields}
    plan = {"model": model_name, "variant": subject.variant.content(), "data": case.data, "seed": subject.seed}
    plan |= {"image_size": case.image_size, "dtype": protocol["dtype"], "layout": protocol["layout"]}
    plan |= {"head": case.head, "input": "x".join(map(str, case.input_size)), "format": FORMAT}
    plan |= {"training images": len(splits.train), "processes": devices.world()} | fields  # type: ignore[arg-type]
    return Job(
        recipe=kind(**fields),
        image_size=case.image_size,
        size=case.input_size,
        classes=data.find(case.data).classes,
        seed=subject.seed,
        plan=plan,
        autocast=subject.autocast,
        half=subject.dtype == torch.float16,
        workers=0 if isinstance(splits.train, TensorDataset) else _workers(protocol),
    )


def _workers(protocol: dict[str, Any]) -> int:
    """Processes that read images: as many as asked for, or one a core that training may use."""
    chosen: int | None = protocol["workers"]
    return usable_cores() // devices.on_this_machine() if chosen is None else chosen
