"""What a model with weights says of pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights

from acmix_bench import backbones, data
from acmix_bench.backbones.saved import description_of
from acmix_bench.backbones.weights import build, load_weights, row_of
from acmix_bench.data.pictures import read_picture
from acmix_bench.data.transforms import to_test
from acmix_bench.errors import UserError
from acmix_bench.spec.library import load_recipe
from acmix_bench.spec.recipe import Recipe

IMAGENET: list[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
BATCH = 16  # pictures in memory at a time


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The likeliest classes of a picture with their probabilities, or why there are none."""

    path: Path
    classes: Sequence[tuple[str, float]] = ()
    problem: str = ""


def predict(model_name: str, weights: Path, pictures: Iterable[Path], *, top: int = 5) -> Iterator[Answer]:
    """The likeliest classes of each picture, a few pictures at a time.

    A picture is resized, cropped and normalised as those that the weights were scored on; where the file does not tell,
    as the recipe of the backbone's paper says.

    Raises:
        UserError: for weights that cannot be read, or are of another model.
    """
    told, row = description_of(weights), row_of(model_name)
    name, at, _ = model_name.rpartition("@") if re.search(r"@\d+$", model_name) else (model_name, "", "")
    size = row.case.image_size if at else int(told.get("image_size", row.case.image_size))
    place = told.get("data", row.case.data)
    if place != "imagenet" and "mean" not in told:
        raise UserError(f"{weights}: {place} has images of its own making; no picture can be made into one")
    names: list[str] = IMAGENET if place == "imagenet" else json.loads(told.get("classes", "[]"))
    names = names or [f"class {number}" for number in range(data.find(place).classes)]
    nothing: Any = ()
    colours: dict[str, Any] = {key: tuple(json.loads(told[key])) for key in ("mean", "deviation") if key in told}
    splits = data.Splits(train=nothing, test=nothing, **colours)
    fields = load_recipe(backbones.find(row.case.backbone).recipe).model_dump(include=set(Recipe.model_fields))
    recipe = Recipe(**fields | {key: told[key] for key in ("interpolation", "crop") if key in told})
    channels = len(splits.mean)
    model = build(f"{name}@{size}", channels=channels, classes=len(names)).eval()
    load_weights(model, weights, model_name=model_name)
    return _answers(model, to_test(recipe, size, splits), iter(pictures), names, channels=channels, top=top)


def _answers(
    model: nn.Module,
    prepare: Callable[[Any], Tensor],
    pictures: Iterator[Path],
    names: Sequence[str],
    *,
    channels: int,
    top: int,
) -> Iterator[Answer]:
    """Batch by batch, in the order of the pictures; one that cannot be read holds up no other."""
    while some := list(islice(pictures, BATCH)):
        images: dict[int, Tensor] = {}
        problems: dict[int, str] = {}
        for number, path in enumerate(some):
            try:
                images[number] = prepare(read_picture(path, channels))
            except UserError as error:
                problems[number] = str(error)
        said = _said(model, torch.stack(list(images.values())), min(top, len(names))) if images else []
        chances = dict(zip(images, said, strict=True))
        for number, path in enumerate(some):
            classes = [(names[index], chance) for index, chance in chances.get(number, ())]
            if any(math.isnan(chance) for _, chance in classes):
                problems[number] = f"{path}: the model's answer is not finite"
            problem = problems.get(number, "")
            yield Answer(path=path, classes=() if problem else classes, problem=problem)


def _said(model: nn.Module, images: Tensor, top: int) -> list[list[tuple[int, float]]]:
    """The likeliest classes of each image, by number, with their probabilities."""
    with torch.inference_mode():
        best = model(images).softmax(-1).topk(top)
    return [list(zip(*pair, strict=True)) for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
