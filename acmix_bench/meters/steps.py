"""What is timed of a network: a forward pass, or a step of training. See `meters.latency` for how."""

from __future__ import annotations

import torch

from acmix_bench.meters.latency import Step
from acmix_bench.meters.subject import Subject


def inference(subject: Subject, batch: int) -> tuple[Step, Step]:
    """The forward pass in evaluation mode, without gradients."""
    model = subject.build().eval()
    model = subject.prepare(model)
    images = subject.images(batch)

    def step() -> None:
        with torch.inference_mode(), subject.autocast():
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
