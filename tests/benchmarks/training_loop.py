"""What the training loop costs beside the bare step that the meter `training` times: images/s of both, alternately.

    python tests/benchmarks/training_loop.py [ROUNDS]

The variant acmix on nano and the digits, by the recipe short: forward, backward and update by AdamW in the loop, which
draws and loads batches too; by SGD, on the same images again and again, in the bare step. The same loop with SGD is
beside it, to see how much of the difference is the optimizer's. About 2 minutes.
"""

from __future__ import annotations

import sys
from time import perf_counter

import torch

from acmix_bench import ablate, data, stats
from acmix_bench.meters import steps
from acmix_bench.meters.accuracy import job_of
from acmix_bench.meters.clock import seconds_of
from acmix_bench.meters.conditions import hold
from acmix_bench.meters.subject import Subject
from acmix_bench.spec import library
from acmix_bench.tasks import classify
from acmix_bench.train.loop import train


def main() -> None:
    """Print the ratios of time, each with its interval over the rounds."""
    rounds = max(6, int(sys.argv[1])) if len(sys.argv) > 1 else 8  # fewer have no interval
    found: dict[str, list[float]] = {"adamw": [], "sgd": []}
    hold({"threads": torch.get_num_threads(), "allocator": "keep"})
    for _ in range(rounds):
        for optimizer, ratios in found.items():
            experiment = library.with_settings(
                library.load_experiment("custom"), ["meters=accuracy", "epochs=1", f"optimizer={optimizer}"]
            )
            subject = Subject.of(ablate.plan_of(experiment, ablate.rows_of(experiment)).cells[0])
            splits = data.load(subject.case.data, subject.case.image_size, subject.protocol["data_root"])
            job = job_of(subject, splits)
            step, _ = steps.training(subject, job.recipe.train_batch)
            seconds_of(step, 3, subject.device, perf_counter)
            bare = seconds_of(step, 22, subject.device, perf_counter) / 22
            (epoch,) = train(subject.build().train(), splits, job, classify)
            ratios.append(job.recipe.train_batch / epoch.images_per_second / bare)
    for optimizer, ratios in found.items():
        told = stats.median(ratios)
        print(f"loop with {optimizer} over the bare step: {told.value:.3f} [{told.low:.3f}, {told.high:.3f}]")


if __name__ == "__main__":
    main()
