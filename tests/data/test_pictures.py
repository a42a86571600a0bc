"""Pictures of every mode and fault, opened."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from acmix_bench.data.pictures import read_picture
from acmix_bench.errors import ShapeError, UserError

RAMP = np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8)


def saved(folder: Path, image: Image.Image, suffix: str = ".png", **options: object) -> Path:
    path = folder / f"a picture{suffix}"
    image.save(path, **options)
    return path


def pixels(path: Path, channels: int = 3) -> np.ndarray:
    image = read_picture(path, channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "RGBa", "La"])
def test_every_mode_of_8_bits_becomes_what_it_shows(mode: str, tmp_path: Path) -> None:
    grey = Image.fromarray((RAMP > 127).astype(np.uint8) * 255 if mode == "1" else RAMP)
    by_way_of = {"RGBa": "RGBA", "La": "LA", "PA": "LA", "HSV": "RGB", "YCbCr": "RGB"}
    image = grey.convert(by_way_of.get(mode, mode)).convert(mode)
    if mode in ("HSV", "YCbCr", "RGBa", "La", "PA", "CMYK"):  # which PNG cannot hold
        image = image.convert({"RGBa": "RGBA", "La": "LA", "PA": "LA", "CMYK": "CMYK"}.get(mode, "RGB"))
    path = saved(tmp_path, image, ".tiff" if image.mode == "CMYK" else ".png")
    assert np.abs(pixels(path) - np.asarray(grey).astype(int)[..., None]).max() <= 2
    assert np.abs(pixels(path, 1) - np.asarray(grey)).max() <= 2


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        (RAMP.astype(np.uint16) * 257, ".png"),
        (RAMP.astype(np.uint16) * 257, ".tiff"),
        (RAMP.astype(np.int32) * 257, ".tiff"),
        (RAMP.astype(np.float32) / 255, ".tiff"),
    ],
)
def test_grey_of_more_bits_is_scaled_and_not_clipped(values: np.ndarray, suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(values), suffix)
    assert np.array_equal(pixels(path, 1), RAMP)
    assert np.array_equal(pixels(path)[..., 2], RAMP)


def test_grey_of_16_bits_with_the_high_byte_first(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 8 8 65535\n" + (RAMP.astype(">u2") * 257).tobytes())
    assert np.array_equal(pixels(path, 1), RAMP)


@pytest.mark.parametrize("values", [RAMP.astype(np.int32) * 100_000, RAMP.astype(np.float32), RAMP / np.float32(-255)])
def test_grey_without_a_known_white_is_refused(values: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(values), ".tiff")
    with pytest.raises(UserError, match=r"a picture.tiff: cannot be read \(its grey values go from .* can be scaled\)"):
        read_picture(path)


def test_transparency_is_dropped_and_exif_turns_nothing(tmp_path: Path) -> None:
    clear = np.dstack([RAMP, RAMP, RAMP, RAMP * 0])
    assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(clear)), 1), RAMP)
    palette = Image.fromarray(RAMP).convert("P")
    palette.info["transparency"] = bytes(range(256))
    assert np.array_equal(pixels(saved(tmp_path, palette, transparency=bytes(range(256))), 1), RAMP)
    turned = Image.Exif()
    turned[0x0112] = 6
    assert np.abs(pixels(saved(tmp_path, Image.fromarray(RAMP), ".jpg", exif=turned, quality=100), 1) - RAMP).max() < 9


def broken_files(folder: Path) -> dict[Path, str]:
    """Files that cannot be read, with what is said of each."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    told: dict[Path, str] = {folder / "nowhere.png": "No such file", folder: "Is a directory"}
    for suffix in (".jpg", ".png", ".webp", ".tiff", ".bmp", ".gif"):
        whole = saved(folder, noise, suffix).read_bytes()
        cut = folder / f"cut{suffix}"
        cut.write_bytes(whole[: len(whole) // 2])
        told[cut] = ""
    for name, content, said in (
        ("empty.jpg", b"", "an empty file"),
        ("text.png", b"no picture", "no image, or a broken one"),
        ("bomb.pgm", b"P5 40000 40000 255\n", "far too large an image"),
    ):
        (folder / name).write_bytes(content)
        told[folder / name] = said
    return told


def test_a_broken_file_is_named_in_one_line(tmp_path: Path) -> None:
    for path, said in broken_files(tmp_path).items():
        with pytest.raises(UserError) as caught:
            read_picture(path)
        line = str(caught.value)
        assert line.startswith(f"{path}: cannot be read (") and said in line and "\n" not in line, line


class Cut(Dataset):
    def __init__(self, path: Path, error: type[UserError] | None = None) -> None:
        self.path, self.error = path, error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> object:
        if self.error:
            raise self.error(f"{self.path}: it says")
        return np.asarray(read_picture(self.path))


@pytest.mark.parametrize("error", [None, UserError, ShapeError])
def test_an_error_of_a_worker_keeps_its_one_line(error: type[UserError] | None, tmp_path: Path) -> None:
    path = tmp_path / "a: cut.jpg"
    path.write_bytes(b"")
    with pytest.raises(error or UserError) as caught:
        list(DataLoader(Cut(path, error), num_workers=1))
    wanted = f"{path}: it says" if error else f"{path}: cannot be read (an empty file)"
    assert str(caught.value) == wanted == str(pickle.loads(pickle.dumps(caught.value)))
