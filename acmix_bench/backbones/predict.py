"""What a model with weights says of pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, Json, model_validator
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights

from acmix_bench import backbones, data
from acmix_bench.backbones.saved import description_of
from acmix_bench.backbones.weights import build, load_weights, row_of
from acmix_bench.data.pictures import read_picture
from acmix_bench.data.transforms import to_test
from acmix_bench.errors import UserError
from acmix_bench.spec import strict
from acmix_bench.spec.experiment import LARGEST_IMAGE
from acmix_bench.spec.library import load_recipe
from acmix_bench.spec.recipe import Recipe
from acmix_bench.spec.strict import Value

IMAGENET: list[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
MOST_CLASSES = 100_000
BATCH = 16  # pictures in memory at a time


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The likeliest classes of a picture with their probabilities, or why there are none."""

    path: Path
    classes: Sequence[tuple[str, float]] = ()
    problem: str = ""


class Told(Value):
    """What weights tell of the images that they were trained on, each where it is told."""

    data: str | None = None
    image_size: int | None = Field(None, ge=1, le=LARGEST_IMAGE)
    interpolation: str | None = None
    crop: str | None = None
    classes: Annotated[Json[tuple[str, ...]], Field(max_length=MOST_CLASSES)] = ()
    mean: Json[tuple[float, ...]] | None = None
    deviation: Json[tuple[Annotated[float, Field(gt=0)], ...]] | None = None

    @model_validator(mode="after")
    def _of_one_or_three_channels(self) -> Told:
        if len(self.mean or ()) not in (0, 1, 3) or len(self.mean or ()) != len(self.deviation or ()):
            raise UserError("mean and deviation must be of 1 or 3 channels")
        return self

    @classmethod
    def of(cls, weights: Path) -> Told:
        """What a file tells.

        Raises:
            UserError: where that is something else.
        """
        told = {key: text for key, text in description_of(weights).items() if key in cls.model_fields}
        return strict.validated(cls, told, where=str(weights))


def splits_of(told: Told) -> data.Splits:
    """A data set of no images, which are normalised as weights tell."""
    nothing: Any = ()
    return data.Splits(train=nothing, test=nothing, **told.model_dump(include={"mean", "deviation"}, exclude_none=True))


def predict(model_name: str, weights: Path, pictures: Iterable[Path], *, top: int = 5) -> Iterator[Answer]:
    """The likeliest classes of each picture, a few pictures at a time.

    A picture is resized, cropped and normalised as those that the weights were scored on; where the file does not tell,
    as the recipe of the backbone's paper says.

    Raises:
        UserError: for weights that cannot be read, or are of another model.
    """
    told, row = Told.of(weights), row_of(model_name)
    name, at, _ = model_name.rpartition("@") if re.search(r"@\d+$", model_name) else (model_name, "", "")
    size = row.case.image_size if at else told.image_size or row.case.image_size
    place = told.data or row.case.data
    if place != "imagenet" and not told.mean:
        raise UserError(f"{weights}: {place} has images of its own making; no picture can be made into one")
    names = IMAGENET if place == "imagenet" else told.classes
    names = names or [f"class {number}" for number in range(data.find(place).classes)]
    splits = splits_of(told)
    fields = load_recipe(backbones.find(row.case.backbone).recipe).model_dump(include=set(Recipe.model_fields))
    known = told.model_dump(include={"interpolation", "crop"}, exclude_none=True)
    recipe = strict.validated(Recipe, fields | known, where=str(weights))
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
