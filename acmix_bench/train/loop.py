"""A short training, and top-1 after it. The recipe is the same for every variant and is never tuned for one."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from acmix_bench.data import Splits

Report = Callable[[int, float, float], None]


class Diverged(Exception):
    """The run went on, but its loss is no longer finite: a result, not a crash."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW under a cosine schedule with 10 % linear warm-up. The seed sets the order of the images."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    seed: int

    def factor(self, step: int, steps: int) -> float:
        """The learning rate of a step, in units of its peak."""
        warm = max(1, steps // 10)
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(
    model: nn.Module,
    splits: Splits,
    recipe: Recipe,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
    half: bool = False,
    report: Report = lambda *_: None,
) -> tuple[list[float], list[float]]:
    """Train a model, and classify the test images after every epoch.

    Args:
        autocast: the context of forward passes.
        half: whether that is float16, whose gradients need scaling.
        report: gets epoch, loss and top-1.

    Returns:
        The mean loss of each epoch, and top-1 after it.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    weight = next(model.parameters())
    order = torch.Generator().manual_seed(recipe.seed)
    batches: DataLoader[Any] = DataLoader(splits.train, recipe.batch, shuffle=True, generator=order)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: recipe.factor(step, steps))
    scaler = torch.amp.GradScaler(weight.device.type, enabled=half)

    losses: list[float] = []
    accuracies: list[float] = []
    for epoch in range(recipe.epochs):
        model.train()
        total = 0.0
        for images, labels in batches:
            optimiser.zero_grad(set_to_none=True)
            with autocast():
                loss = F.cross_entropy(model(images.to(weight)).float(), labels.to(weight.device))
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            schedule.step()
            total += loss.item()
            if not math.isfinite(total):
                raise Diverged(f"loss is {loss.item()} in epoch {epoch + 1} of {recipe.epochs}")
        losses.append(total / len(batches))
        accuracies.append(top1(model, splits, autocast))
        report(epoch + 1, losses[-1], accuracies[-1])
    return losses, accuracies


def top1(model: nn.Module, splits: Splits, autocast: Callable[[], AbstractContextManager[Any]]) -> float:
    """Share of the test images that are classified right."""
    model.eval()
    weight = next(model.parameters())
    right = seen = 0
    with torch.inference_mode(), autocast():
        for images, labels in DataLoader(splits.test, 256):
            guess = model(images.to(weight)).argmax(1).cpu()
            right += int((guess == labels).sum())
            seen += len(labels)
    return right / seen
