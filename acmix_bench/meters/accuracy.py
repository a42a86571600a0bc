"""Top-1 after a short training. The recipe is the same for every variant and is never tuned for one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from acmix_bench import data
from acmix_bench.meters.subject import Diverged, Subject
from acmix_bench.ops.mix import Mix

Report = Callable[[int, float, float], None]


def measure(subject: Subject, *, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train with AdamW under a cosine schedule (10 % linear warm-up), then classify the test images.

    The seed sets the initialisation and the order of the images. `report` gets epoch, loss and accuracy.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    protocol, device = subject.protocol, subject.device
    model = subject.build()
    splits = data.load(subject.case.data, subject.case.image_size, protocol["data_root"])
    order = torch.Generator().manual_seed(subject.seed)
    train: DataLoader[Any] = DataLoader(splits.train, protocol["train_batch"], shuffle=True, generator=order)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=protocol["learning_rate"], weight_decay=protocol["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_cosine(protocol["epochs"] * len(train)))
    scaler = torch.amp.GradScaler(device.type, enabled=subject.dtype == torch.float16)
    weights = next(model.parameters()).dtype

    losses, accuracies = [], []
    for epoch in range(protocol["epochs"]):
        model.train()
        total = 0.0
        for images, labels in train:
            optimiser.zero_grad(set_to_none=True)
            with subject.autocast():
                loss = F.cross_entropy(model(images.to(device, weights)).float(), labels.to(device))
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            schedule.step()
            total += loss.item()
            if not math.isfinite(total):
                raise Diverged(f"loss is {loss.item()} in epoch {epoch + 1} of {protocol['epochs']}")
        losses.append(total / len(train))
        accuracies.append(evaluate(model, splits, subject))
        report(epoch + 1, losses[-1], accuracies[-1])
    return {
        "accuracy": accuracies[-1],
        "test_images": len(splits.test),
        "accuracy_by_epoch": accuracies,
        "loss_by_epoch": losses,
        "mixing_weights": mixing_weights(model),
    }


def evaluate(model: nn.Module, splits: data.Splits, subject: Subject) -> float:
    """Share of the test images that are classified right."""
    model.eval()
    right = seen = 0
    weights = next(model.parameters()).dtype
    with torch.inference_mode(), subject.autocast():
        for images, labels in DataLoader(splits.test, 256):
            guess = model(images.to(subject.device, weights)).argmax(1).cpu()
            right += int((guess == labels).sum())
            seen += len(labels)
    return right / seen


def mixing_weights(model: nn.Module) -> list[list[float]]:
    """The factors of attention and of convolution in each layer that mixes, in the order of the layers."""
    return [[weight.item() for weight in module.weights()] for module in model.modules() if isinstance(module, Mix)]


def _warm_cosine(steps: int) -> Callable[[int], float]:
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor
