"""What a model of a dense task says of pictures, drawn over them: label maps, or boxes with masks."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pictures
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from acmix_bench import data
from acmix_bench.backbones.predict import Told, splits_of
from acmix_bench.backbones.saved import write
from acmix_bench.backbones.weights import load_weights
from acmix_bench.data import dense
from acmix_bench.data.pictures import read_picture
from acmix_bench.errors import UserError
from acmix_bench.meters.subject import Subject
from acmix_bench.spec.cell import Row
from acmix_bench.spec.recipe import DenseRecipe
from acmix_bench.tasks.detect import in_picture

SCORE = 0.5  # of an object, from which on it is drawn
OPACITY = 0.55  # of a label map or mask over the picture


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture with what was found in it, or why there is none."""

    path: Path
    out: Path | None = None
    found: str = ""
    problem: str = ""


def draw(row: Row, weights: Path, images: Iterable[Path], folder: Path) -> Iterator[Drawn]:
    """Write a PNG for each picture, under its own name.

    Raises:
        UserError: for weights that cannot be read or are of another model, or a folder that cannot be made.
    """
    told = Told.of(weights)
    case = row.case.model_copy(update={"data": told.data} if told.data else {})
    subject = Subject(variant=row.variant, case=case, protocol={}, seed=0)
    if subject.task == "classify":
        raise UserError(f"{row.label} says a class, and nothing to draw; leave out --out")
    model = subject.build_to_train().eval()
    load_weights(model, weights, model_name=row.label)
    names = told.classes or tuple(map(str, range(1000)))
    prepare = dense.to_test(DenseRecipe(), case.input_size, splits_of(told))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    for path in images:
        try:
            image = read_picture(path, data.find(case.data).channels)
            out = folder / f"{path.stem}.png"
            if out.resolve() == path.resolve():
                raise UserError(f"{path}: would be written over; choose another --out")
            drawing, found = _drawn(model, prepare, image, names, subject.task)
            write(out, partial(drawing.save, format="PNG"))
        except UserError as error:
            yield Drawn(path=path, problem=str(error))
        else:
            yield Drawn(path=path, out=out, found=found)


def _drawn(model: nn.Module, prepare: Any, image: Any, names: Sequence[str], task: str) -> tuple[Any, str]:
    """The picture with what the model finds in it, and that in words."""
    pixels = pictures.pil_to_tensor(image)
    nothing: Any = pictures.to_pil_image(torch.zeros(image.size[::-1], dtype=torch.uint8))
    if task == "segment":
        x, _ = prepare(image, nothing)
        with torch.inference_mode():
            scores = F.interpolate(model(x[None]), pixels.shape[-2:], mode="bilinear", align_corners=False)
        labels = scores[0].argmax(0)
        there = labels.unique().tolist()
        things = [number for number in there if _name(names, number) != "background"]
        if things:
            masks, colours = torch.stack([labels == number for number in things]), list(map(_colour, things))
            pixels = draw_segmentation_masks(pixels, masks, alpha=OPACITY, colors=colours)
        shares = sorted(((float((labels == number).float().mean()), number) for number in there), reverse=True)
        words = [f"{_name(names, number)} {100 * share:.0f} %" for share, number in shares]
        return pictures.to_pil_image(pixels), ", ".join(words)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    x, _ = prepare(image, none)
    with torch.inference_mode():
        (said,) = model([x])
    said = in_picture(said, x.shape[-2:], pixels.shape[-2:])
    sure = said["scores"] >= SCORE
    said = {name: value[sure] for name, value in said.items() if isinstance(value, Tensor)}
    labels = said["labels"].tolist()
    colours = [_colour(number) for number in labels]
    if labels:
        if "masks" in said:
            pixels = draw_segmentation_masks(pixels, said["masks"], alpha=OPACITY, colors=colours)
        words = [_name(names, number - 1) for number in labels]
        pixels = draw_bounding_boxes(pixels, said["boxes"], words, colours)
    told = [f"{_name(names, n - 1)} {100 * s:.0f} %" for n, s in zip(labels, said["scores"].tolist(), strict=True)]
    return pictures.to_pil_image(pixels), ", ".join(told) or "nothing"


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else str(number)


def _colour(number: int) -> tuple[int, int, int]:
    """One of its own for each class, far from those of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
