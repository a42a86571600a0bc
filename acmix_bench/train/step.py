"""One update of the weights, in as many passes as its images need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import nn

from acmix_bench.errors import UserError
from acmix_bench.spec.recipe import Recipe
from acmix_bench.train import devices
from acmix_bench.train.batches import Batch, draw_from


class OutOfMemory(Exception):
    """The images of one pass did not fit; fewer may."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and how.

    Attributes:
        plan: all that the result depends on, in words and numbers: a checkpoint of another plan is refused.
        autocast: the context of forward passes.
        half: whether that is float16, whose gradients need scaling.
        workers: processes that read images.
    """

    recipe: Recipe
    image_size: int
    classes: int
    seed: int
    plan: dict[str, Any]
    autocast: Callable[[], AbstractContextManager[Any]]
    half: bool = False
    workers: int = 0


def step_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, job: Job
) -> Callable[[list[Batch], int], float]:
    """One update: forward and backward for each part of its images, then the optimizer. Gives the loss."""
    recipe, weight = job.recipe, next(model.parameters())
    shared = devices.shared(model)
    if recipe.compile:
        shared.compile()
    mix = None
    if recipe.mixup or recipe.cutmix:
        mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=job.classes)
    channels_last = any(
        parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in model.parameters()
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def step(batches: list[Batch], update: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        total = weight.new_zeros(())
        for part, (images, labels) in enumerate(batches):
            draw_from(job.seed, update, part, devices.rank())
            x = images.to(weight.device, weight.dtype, non_blocking=True, memory_format=layout)
            target = labels.to(weight.device, non_blocking=True)
            smoothing = recipe.smoothing
            if mix:
                x, target = mix(x, target)
                smoothing = 0.0  # it is in the targets
            waits = len(batches) > 1 and part < len(batches) - 1 and shared is not model
            with shared.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with job.autocast():
                    output = shared(x)
                scores = output.to(weight.dtype)  # of half types the loss is taken in full
                loss = F.cross_entropy(scores, target, label_smoothing=smoothing) / len(batches)
                scaler.scale(loss).backward()
            total += loss.detach()
        if recipe.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        scaler.step(optimizer)
        scaler.update()
        return float(devices.averaged(total))

    def careful(batches: list[Batch], update: int) -> float:
        try:
            return step(batches, update)
        except Exception as error:
            if isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error):
                raise UserError(
                    f"BatchNorm has nothing to average over in a pass of {len(batches[0][1])} image; set a larger "
                    "train_batch, or a smaller accumulate"
                ) from error
            if not devices.ran_out_of_memory(error):
                raise
            why = str(error)
        optimizer.zero_grad(set_to_none=True)
        devices.free_memory()
        raise OutOfMemory(why)

    return careful
