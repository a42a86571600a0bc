"""The optimizer and the learning rate, as a recipe says."""

from __future__ import annotations

import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from acmix_bench.spec.recipe import Recipe

# Parameters of more than one dimension that are no weights: positions, and what stands for the image.
POSITIONS = ("pos_embed", "cls_token", "relative_position_bias_table")
POWERS = {"poly": 0.9, "linear": 1.0}  # of the share of the updates that are left


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD; where only weights decay, none of one dimension or less does: norms, biases, alpha and beta."""
    groups = [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}]
    if recipe.decay == "weights":
        spared = [name for name, _ in model.named_parameters() if name.rpartition(".")[2] in POSITIONS]
        groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=spared)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)


def schedule_of(optimizer: torch.optim.Optimizer, recipe: Recipe, updates: int) -> Scheduler:
    """The learning rate of each update, a function of its number: `step_update(number)` sets it."""
    warm = round(recipe.warmup * updates)
    rising = {"warmup_t": warm, "warmup_lr_init": recipe.learning_rate / max(1, warm), "t_in_epochs": False}
    if recipe.schedule in POWERS:
        power = POWERS[recipe.schedule]
        return PolyLRScheduler(optimizer, t_initial=updates, power=power, lr_min=recipe.last_rate, **rising)
    if recipe.schedule == "drops":
        falls = [round(share * updates) + 1 for share in recipe.drops]  # timm counts from 1
        return MultiStepLRScheduler(optimizer, decay_t=falls, decay_rate=0.1, warmup_prefix=False, **rising)
    if recipe.schedule == "step":
        third = -(-recipe.epochs // 3) * updates // recipe.epochs
        return StepLRScheduler(optimizer, decay_t=third, decay_rate=0.1, warmup_prefix=False, **rising)
    return CosineLRScheduler(optimizer, t_initial=updates, lr_min=recipe.last_rate, **rising)
