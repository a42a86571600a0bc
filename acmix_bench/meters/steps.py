"""What is timed of a network: a forward pass, or a step of training. See `meters.latency` for how."""

from __future__ import annotations

import torch

from acmix_bench.meters.clock import Step
from acmix_bench.meters.subject import Subject


def inference(subject: Subject, batch: int) -> tuple[Step, Step]:
    """The forward pass in evaluation mode, without gradients.

    Autocast lowers each weight once, not in every step: in inference they stay what they are. It forgets what it has
    lowered when its outermost context ends, and here that never does; it remembers nothing in inference mode.
    """
    model = subject.build().eval()
    model = subject.prepare(model)
    images = subject.images(batch)
    without_gradients = torch.no_grad if subject.is_half else torch.inference_mode
    if subject.is_half:
        torch.autocast_increment_nesting()

    def step() -> None:
        with without_gradients(), subject.autocast():
            model(images)

    return step, lambda: None


def training(subject: Subject, batch: int) -> tuple[Step, Step]:
    """One step of training: forward, loss, backward, update (SGD)."""
    model = subject.build().train()
    model = subject.prepare(model)
    images = subject.images(batch)
    labels = torch.zeros(len(images), dtype=torch.long, device=subject.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with subject.autocast():
            loss = subject.loss(model(images), labels)
        loss.backward()
        optimiser.step()

    return step, optimiser.zero_grad  # the gradients of the last step; those of the next belong to its peak
