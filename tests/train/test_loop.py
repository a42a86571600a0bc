"""Training: stopped and gone on with, alone and in two processes, and what goes wrong in it."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from acmix_bench.backbones.build import build
from acmix_bench.data import Splits
from acmix_bench.errors import UserError
from acmix_bench.spec import library
from acmix_bench.spec.recipe import Recipe
from acmix_bench.tasks import Job, classify
from acmix_bench.train import checkpoint, devices, loop
from acmix_bench.train.batches import draw_from, in_turns, order_of, parts_of
from acmix_bench.train.loop import Diverged, updates_of
from acmix_bench.train.optimizer import optimizer_of, schedule_of

SHORT = Recipe(epochs=3, train_batch=16)
train = partial(loop.train, task=classify)
# Everything that draws, averages or scales.
FULL = Recipe(
    epochs=3,
    train_batch=16,
    accumulate=2,
    decay="weights",
    clip=1.0,
    smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    repeats=3,
    ema=0.9,
)


def splits_of(images: int = 70) -> Splits:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % 3
    pixels = torch.randn(images, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1)
    return Splits(train=TensorDataset(pixels, labels), test=TensorDataset(pixels[:20], labels[:20]))


def model_of(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, 3)
    )


def job_of(recipe: Recipe, **more: Any) -> Job:
    plan = {"model": "small", **recipe.model_dump()}
    return Job(recipe=recipe, image_size=8, size=(8, 8), classes=3, seed=5, plan=plan, autocast=nullcontext, **more)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Killed(Exception):
    pass


@pytest.mark.parametrize("recipe", [SHORT, FULL, Recipe(epochs=3, train_batch=16, optimizer="sgd", schedule="step")])
@pytest.mark.parametrize("killed_after", [2, 4, 6, 9, 11])
def test_resumed_is_undisturbed_bit_for_bit(recipe: Recipe, killed_after: int, tmp_path: Path) -> None:
    undisturbed = model_of()
    (tmp_path / "whole").mkdir()
    whole = train(undisturbed, splits_of(), job_of(recipe), folder=tmp_path / "whole")

    def kill(progress: Any, *_: Any) -> None:
        if progress.update == killed_after:
            raise Killed

    options: dict[str, Any] = {"folder": tmp_path, "seconds_between_saves": 0}
    with pytest.raises(Killed):
        train(model_of(), splits_of(), job_of(recipe), report=kill, **options)
    gone_on = model_of(seed=9)  # all must come from the checkpoint
    begun = checkpoint.load(tmp_path / checkpoint.LAST, job_of(recipe).plan)
    resumed = train(gone_on, splits_of(), job_of(recipe), begun=begun, **options)
    assert same(undisturbed.state_dict(), gone_on.state_dict())
    assert [(epoch.loss, epoch.scores) for epoch in resumed] == [(epoch.loss, epoch.scores) for epoch in whole]
    for name in (checkpoint.WEIGHTS, checkpoint.BEST):
        assert same(load_file(tmp_path / name), load_file(tmp_path / "whole" / name))


def test_another_seed_or_update_draws_otherwise() -> None:
    drawn = []
    for numbers in ((1, 2, 3), (1, 2, 3), (1, 2, 4), (2, 1, 3)):
        draw_from(*numbers)
        drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_an_epoch_holds_every_image_once_in_an_order_of_its_own() -> None:
    first, again, second = order_of(10, 0, 1), order_of(10, 0, 1), order_of(10, 0, 2)
    assert first == again
    assert sorted(image for _, image, _ in first) == list(range(10))
    assert [image for _, image, _ in first] != [image for _, image, _ in second]


def test_repeated_augmentation_draws_a_share_of_the_images_several_times() -> None:
    order = order_of(12, 0, 0, repeats=3)
    assert len(order) == len(set(order)) == 12
    assert len({image for _, image, _ in order}) == 4


@pytest.mark.parametrize(("parts", "world"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 2)])
def test_processes_and_passes_share_an_update_whole(parts: int, world: int) -> None:
    order = order_of(40, 0, 0)
    shared = [part for rank in range(world) for part in parts_of(order, 1, 16, parts, rank, world)]
    assert {len(part) for part in shared} == {16 // (parts * world)}
    assert sorted(key for part in shared for key in part) == sorted(order[16:32])


def test_every_test_image_is_seen_once() -> None:
    seen = [image for rank in range(3) for batch in in_turns(10, 2, rank, 3) for _, image, _ in batch]
    assert sorted(seen) == list(range(10))


def test_accumulated_passes_are_the_update_of_one() -> None:
    """On a model without norms: what BatchNorm averages over is a pass."""
    trained = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)).double()
        train(model, splits_of(), job_of(SHORT.model_copy(update={"accumulate": accumulate, "optimizer": "sgd"})))
        trained.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-12, atol=1e-12)


def test_memory_that_runs_out_halves_a_pass_and_says_so() -> None:
    class Hungry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
            self.seen: list[int] = []
            self.made: list[weakref.ref[Tensor]] = []

        def forward(self, x: Tensor) -> Tensor:
            held = [one for one in self.made if one() is not None]
            assert not held, "what the failed pass held must be gone before the next"
            large = torch.ones(len(x))
            self.made = [weakref.ref(large)]
            if self.training:
                self.seen.append(len(x))
            if len(x) > 4 and self.training:
                try:
                    raise torch.OutOfMemoryError("as CUDA says it")
                except torch.OutOfMemoryError as error:
                    _kept_by_its_own_frame = [error]
                    raise
            return self.inner(x)

    told: list[str] = []
    model = Hungry()
    epochs = train(model, splits_of(), job_of(SHORT), say=told.append)
    assert told == [
        "memory ran out: from here 2 passes an update, of 8 images each",
        "memory ran out: from here 4 passes an update, of 4 images each",
    ]
    assert len(epochs) == 3
    assert model.seen == [16, 8] + [4] * 4 * 4 * 3


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    splits = splits_of()
    splits.train.tensors[0][:] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match="loss is nan in update 1, epoch 1 of 3"):
        train(model_of(), splits, job_of(SHORT))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_batch": 71}, "there are only 70 images to train on"),
        ({"train_batch": 16, "accumulate": 3}, "must be a multiple of 3"),
        ({"train_batch": 15, "mixup": 0.2}, "Mixup needs an even number"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        updates_of(70, SHORT.model_copy(update=changes))


def test_what_is_left_over_of_an_epoch_is_dropped() -> None:
    assert updates_of(70, SHORT) == 4


def test_batch_norm_over_one_image_names_the_setting() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
    with pytest.raises(UserError, match="set a larger train_batch, or a smaller accumulate"):
        train(model, splits_of(), job_of(SHORT.model_copy(update={"accumulate": 16})))


def test_a_checkpoint_of_another_plan_is_refused_by_what_differs(tmp_path: Path) -> None:
    train(model_of(), splits_of(), job_of(SHORT), folder=tmp_path)
    with pytest.raises(UserError, match=r"is of another training: learning_rate is 0\.1 and was 0\.002$"):
        checkpoint.load(tmp_path / checkpoint.LAST, job_of(SHORT.model_copy(update={"learning_rate": 0.1})).plan)


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.LAST
    with pytest.raises(UserError, match="is not there"):
        checkpoint.load(path, {})
    for content in (b"", b"no checkpoint", b"PK\x03\x04 half a download"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no checkpoint of acmix-bench train, or a broken one"):
            checkpoint.load(path, {})


def test_no_code_of_a_checkpoint_runs(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return (print, ("harm",))

    torch.save({"plan": {}, "more": Harmful()}, tmp_path / checkpoint.LAST)
    with pytest.raises(UserError, match="is no checkpoint"):
        checkpoint.load(tmp_path / checkpoint.LAST, {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.LAST
    checkpoint.save(path, {"plan": {}, "value": 1})
    (tmp_path / f".{path.name}.unfinished").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be written.*; the one before is intact"):
        checkpoint.save(path, {"plan": {}, "value": torch.zeros(100_000)})
    assert checkpoint.load(path, {})["value"] == 1
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_only_weights_decay_where_asked() -> None:
    model = build("swin-t", library.load_variant("acmix"), in_channels=3, num_classes=2, image_size=56)
    optimizer = optimizer_of(model, FULL)
    spared = {
        id(parameter) for group in optimizer.param_groups if not group["weight_decay"] for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        is_weight = parameter.ndim > 1 and "relative_position_bias_table" not in name
        assert (id(parameter) in spared) != is_weight, name
    assert len(optimizer_of(model, SHORT).param_groups) == 1


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({"warmup": 0.0}, [1.0, 0.9698, 0.8830, 0.75, 0.5868, 0.4132, 0.25, 0.1170, 0.0302]),
        ({"warmup": 1 / 3}, [1 / 3, 5 / 9, 7 / 9, 0.75, 0.5868, 0.4132, 0.25, 0.1170, 0.0302]),
        ({"warmup": 0.0, "last_rate": 0.5}, [1.0, 0.9849, 0.9415, 0.875, 0.7934, 0.7066, 0.625, 0.5585, 0.5151]),
        ({"warmup": 0.0, "schedule": "step"}, [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]),
    ],
)
def test_the_learning_rate_follows_the_recipe(changes: dict[str, Any], rates: list[float]) -> None:
    recipe = Recipe(learning_rate=1.0, epochs=3).model_copy(update=changes)
    optimizer = optimizer_of(nn.Linear(1, 1), recipe)
    schedule = schedule_of(optimizer, recipe, 9)
    seen = []
    for update in range(9):
        schedule.step_update(update)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx(rates, abs=1e-4)


def test_the_average_of_the_weights_is_what_is_scored(tmp_path: Path) -> None:
    """Literally: after every update, a tenth of the new weights and nine of the old."""
    model, literal = model_of(), model_of()
    averages = [parameter.detach().clone() for parameter in literal.parameters()]
    recipe = SHORT.model_copy(update={"ema": 0.9})

    def follow(progress: Any, updates: int, _: float) -> None:
        if progress.update > len(seen):
            seen.append([parameter.detach().clone() for parameter in model.parameters()])

    seen: list[list[Tensor]] = []
    train(model, splits_of(), job_of(recipe), folder=tmp_path, report=follow)
    for weights in seen:
        averages = [0.9 * average + 0.1 * weight for average, weight in zip(averages, weights, strict=True)]
    kept = load_file(tmp_path / checkpoint.WEIGHTS)
    for (name, _), average in zip(literal.named_parameters(), averages, strict=True):
        torch.testing.assert_close(kept[name], average)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory is what a user's code may say of anything"), False),
    ],
)
def test_memory_that_runs_out_is_known_by_any_of_its_words(error: Exception, is_memory: bool) -> None:
    assert devices.ran_out_of_memory(error) is is_memory
