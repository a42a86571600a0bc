"""Top-1 after a short training."""

from __future__ import annotations

from typing import Any

import torch

from acmix_bench import data
from acmix_bench.meters.subject import Subject
from acmix_bench.ops.mix import Mix
from acmix_bench.train.loop import Recipe, Report, train


def measure(subject: Subject, *, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train from the subject's seed, which sets the initialisation and the order of the images.

    Returns:
        Top-1 of the last epoch and of each, the losses, and each mixing layer's factors of attention and convolution.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    protocol, model = subject.protocol, subject.build()
    splits = data.load(subject.case.data, subject.case.image_size, protocol["data_root"])
    recipe = Recipe(
        epochs=protocol["epochs"],
        batch=protocol["train_batch"],
        learning_rate=protocol["learning_rate"],
        weight_decay=protocol["weight_decay"],
        seed=subject.seed,
    )
    half = subject.dtype == torch.float16
    losses, accuracies = train(model, splits, recipe, autocast=subject.autocast, half=half, report=report)
    return {
        "accuracy": accuracies[-1],
        "test_images": len(splits.test),  # type: ignore[arg-type]
        "accuracy_by_epoch": accuracies,
        "loss_by_epoch": losses,
        "mixing_weights": [[w.item() for w in m.weights()] for m in model.modules() if isinstance(m, Mix)],
    }
