"""The scores against a literal computation, image by image, and over processes against one."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import Tensor, distributed, nn

from acmix_bench.errors import UserError
from acmix_bench.tasks.classify import Scores, score

Batches = list[tuple[Tensor, Tensor]]


class Said(nn.Module):
    """A model that says what its images hold."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.one


def scored(batches: Batches, classes: int) -> Scores:
    return score(Said(), batches, classes=classes, autocast=nullcontext)


def cut(images: Tensor, labels: Tensor, *sizes: int) -> Batches:
    return list(zip(images.split(list(sizes)), labels.split(list(sizes)), strict=True))


def random_images(images: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    return 3 * torch.randn(images, classes, generator=generator), torch.arange(images) ** 2 % classes


def assert_same(scores: dict[str, Any], expected: dict[str, Any]) -> None:
    assert scores["by_class"] == expected["by_class"]
    flat, wanted = ({k: v for k, v in told.items() if isinstance(v, int | float)} for told in (scores, expected))
    assert flat == pytest.approx(wanted, rel=1e-9)


def literal(images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Every score from its definition, in Python's numbers."""
    rows, classes = images.double().tolist(), images.shape[1]
    chances = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in rows]
    guesses = [max(range(classes), key=row.__getitem__) for row in rows]
    hits = [guess == label for guess, label in zip(guesses, labels.tolist(), strict=True)]
    firsts = [sorted(range(classes), key=row.__getitem__)[-5:] for row in rows]
    error = 0.0
    for number in range(15):
        inside = [i for i, c in enumerate(map(max, chances)) if number / 15 < c <= (number + 1) / 15]
        if inside:
            share = np.mean([hits[i] for i in inside])
            error += len(inside) / len(rows) * abs(share - np.mean([max(chances[i]) for i in inside]))
    return {
        "images": len(rows),
        "top1": np.mean(hits),
        "top5": np.mean([label in five for label, five in zip(labels.tolist(), firsts, strict=True)]),
        "cross_entropy": -np.mean([math.log(row[label]) for row, label in zip(chances, labels.tolist(), strict=True)]),
        "calibration_error": error,
        "by_class": tuple(
            (sum(hit for hit, label in zip(hits, labels, strict=True) if label == c), int((labels == c).sum()))
            for c in range(classes)
        ),
        "not_finite": 0,
    }


@pytest.mark.parametrize("classes", [2, 5, 6, 30])
def test_scores_are_those_of_their_definitions(classes: int) -> None:
    images, labels = random_images(203, classes)
    expected = literal(images, labels)
    if classes <= 5:
        expected["top5"] = None
    scores = scored(cut(images, labels, 100, 100, 3), classes)
    assert_same(scores.__dict__, expected)


def test_a_bin_holds_its_upper_edge() -> None:
    """Two images of confidence 9/15, right and wrong, are in the ninth bin; one just above, right, is in the tenth."""
    above = 0.61
    chances = torch.tensor([[0.6, 0.4], [0.6, 0.4], [above, 1 - above]], dtype=torch.float64)
    batches = [(chances.log(), torch.tensor([0, 1, 0]))]
    scores = score(Said().double(), batches, classes=2, autocast=nullcontext)
    assert scores.calibration_error == pytest.approx(2 / 3 * 0.1 + 1 / 3 * (1 - above))


def test_what_is_not_finite_is_wrong_and_counted() -> None:
    images, labels = random_images(10, 6)
    labels[:] = 0
    images[:, 0] = 9
    images[3, 2] = math.nan
    images[5, 1] = math.inf
    scores = scored(cut(images, labels, 6, 4), 6)
    assert (scores.not_finite, scores.top1, scores.top5) == (2, 0.8, 0.8)
    assert not math.isfinite(scores.cross_entropy)
    assert 0 <= scores.calibration_error < 0.1


def test_no_images_are_an_error() -> None:
    with pytest.raises(UserError, match="there are no test images"):
        scored([], 3)


def test_the_model_is_in_eval_mode_and_progress_is_told() -> None:
    images, labels = random_images(7, 6)
    model, told = nn.Sequential(nn.Dropout(0.9), Said()), []
    score(model.train(), cut(images, labels, 4, 3), classes=6, autocast=nullcontext, report=told.append)
    assert (told, model.training) == ([4, 7], False)


def _one_of(rank: int, parts: list[Batches], folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=len(parts))
    torch.save(scored(parts[rank], 6).__dict__, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_with_unequal_parts_score_as_one(tmp_path: Path) -> None:
    images, labels = random_images(50, 6)
    batches = cut(images, labels, 20, 20, 7, 3)
    parts = [[batches[0], batches[2], batches[3]], [batches[1]]]
    torch.multiprocessing.spawn(_one_of, (parts, str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        assert_same(torch.load(tmp_path / f"{rank}.pt"), scored(batches, 6).__dict__)
