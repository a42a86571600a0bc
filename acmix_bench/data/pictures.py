"""How a picture is opened, the same for training, scoring and predicting."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from acmix_bench import files
from acmix_bench.errors import UserError

Taken = TypeVar("Taken")


def read_picture(path: Path | str, channels: int = 3) -> Image.Image:
    """A picture as RGB, or as grey (mode L) for one channel; of several frames the first.

    As torchvision and timm read it: transparency is dropped, and the pixels stay as they lie, so that an orientation
    in the EXIF data turns nothing. Unlike there, 16 bits of grey are scaled to 8 and not clipped to white.

    Raises:
        UserError: naming the file, where it cannot be read as a whole.
    """
    mode = "L" if channels == 1 else "RGB"
    return decoded(path, lambda image: _in_8_bits(image).convert(mode))


def decoded(path: Path | str, take: Callable[[Image.Image], Taken]) -> Taken:
    """What is taken of a picture's pixels, from an open file.

    Raises:
        UserError: naming the file, where it cannot be read as a whole.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF data, and of pictures that are merely large
            with files.opened(path) as file, Image.open(file) as image:
                if image.format == "EPS":  # PostScript, which Pillow has Ghostscript run
                    raise UserError("a program that draws, and no picture")
                return take(image)
    except UserError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise UserError(f"{path}: cannot be read ({_reason(error, Path(path))})") from error


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits to 8 by its range: 65535 of integers, 1 of floats; others stay as they are.

    Raises:
        UserError: for numbers outside of that range, since no one knows what is white in them.
    """
    if image.mode in ("P", "PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    white, low, high = 1 if image.mode == "F" else 65535, values.min(), values.max()
    if not (low >= 0 and high <= white):  # not a number is not within it either
        raise UserError(f"its grey values go from {low:g} to {high:g}; 0 to {white} can be scaled")
    scaled = np.empty(values.shape, np.uint8)
    for ours, theirs in zip(scaled, values, strict=True):  # row by row: a large one fills no memory
        ours[:] = np.rint(theirs.astype(np.float64) * (255 / white))
    return Image.fromarray(scaled)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "an empty file" if path.stat().st_size == 0 else "no image, or a broken one"
    if isinstance(error, Image.DecompressionBombError):
        return "far too large an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [""])[0] or type(error).__name__
