"""One update of the weights, in as many passes as its images need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from acmix_bench.errors import UserError
from acmix_bench.tasks import Batch, Job, Task
from acmix_bench.train import devices
from acmix_bench.train.batches import draw_from, moved


class OutOfMemory(Exception):
    """The images of one pass did not fit; fewer may."""


def step_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, job: Job, task: Task
) -> Callable[[list[Batch], int], Tensor]:
    """One update: forward and backward for each part of its images, then the optimizer.

    Gives the loss (a single number) where it was computed: to read it is to wait for the device.
    """
    recipe, weight = job.recipe, next(model.parameters())
    shared = devices.shared(model)
    if recipe.compile:
        shared.compile()
    loss_of = task.losses(job)
    channels_last = any(
        parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in model.parameters()
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def step(batches: list[Batch], update: int) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        total = weight.new_zeros(())
        for part, batch in enumerate(batches):
            draw_from(job.seed, update, part, devices.rank())
            waits = len(batches) > 1 and part < len(batches) - 1 and shared is not model
            with shared.no_sync() if waits else nullcontext():  # type: ignore[operator]
                loss = loss_of(shared, moved(batch, weight, layout)) / len(batches)
                scaler.scale(loss).backward()
            total += loss.detach()
        if recipe.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        scaler.step(optimizer)
        scaler.update()
        return devices.averaged(total)

    def careful(batches: list[Batch], update: int) -> Tensor:
        try:
            return step(batches, update)
        except Exception as error:
            if isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error):
                raise UserError(
                    f"BatchNorm has nothing to average over in a pass of {len(batches[0][0])} image; set a larger "
                    "train_batch, or a smaller accumulate"
                ) from error
            if devices.is_lost(weight.device) or not devices.ran_out_of_memory(error):
                raise
            why = str(error)
        optimizer.zero_grad(set_to_none=True)
        devices.free_memory()
        raise OutOfMemory(why)

    return careful
