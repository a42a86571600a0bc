"""A folder of pictures, from the shell: checked, trained on, and part of a number's key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from full import full
from layouts import cifar, folders, mnist
from package import run_in
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from acmix_bench.cli import app


def checked(name: str, *arguments: str) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["check", name, *arguments])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, answer.stdout


def test_check_names_what_is_wrong_with_pictures(tmp_path: Path) -> None:
    train, val = folders(tmp_path / "train", each=4), folders(tmp_path / "val", each=2)
    (train / "grass" / "notes.txt").touch()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 20)).save(train / "roses" / "a turned one.jpg", exif=turned)
    (val / "roses" / "picture 0.png").write_bytes(b"another")
    (val / "grass" / "picture 0.png").unlink()
    Image.new("RGB", (5, 5)).save(val / "grass" / "picture 0.png")
    (val / "blue sky" / "picture 0.png").unlink()
    (val / "blue sky" / "picture 1.png").write_bytes((train / "blue sky" / "picture 2.png").read_bytes())
    code, out = checked(f"data=folder:{tmp_path}")
    assert code == 1
    lines = {line[9:30].strip(): (line[2:8].strip(), line[30:]) for line in out.splitlines()[1:]}
    assert lines["loads"][0] == "ok"
    assert lines["classes"] == ("ok", "3 with 5 to 7 pictures: blue sky 5, grass 6, roses 7")
    told = f"1 of 18 cannot be read: {val}/roses/picture 0.png: cannot be read (no image, or a broken one)"
    assert lines["pictures"] == ("FAILS", told)
    assert lines["sizes"] == ("ok", "5x5 to 30x20, in the middle 9x7")
    assert lines["split"][0] == "FAILS"
    assert f"{val}/blue sky/picture 1.png" in lines["split"][1]
    assert lines["orientation"][0] == "-"
    assert f"1 ask to turn them, which is not done: {train}/roses/a turned one.jpg" in lines["orientation"][1]
    assert lines["other files"] == ("-", f"1 files are no pictures, and passed over: {train}/grass/notes.txt")


def test_check_goes_on_where_the_first_picture_is_broken(tmp_path: Path) -> None:
    place = folders(tmp_path / "photos", each=10)
    for number in range(9):
        (place / "blue sky" / f"picture {number}.png").write_bytes(b"")
    code, out = checked(f"folder:{place}")
    assert code == 1
    assert "9 of 30 cannot be read:" in out
    assert "an empty file" in out


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_check_knows_data_sets_of_pil_images(name: str, tmp_path: Path) -> None:
    """Whose test images are those that train, in these."""
    {"cifar10": lambda: cifar(tmp_path, 10), "mnist": lambda: mnist(tmp_path)}[name]()
    code, out = checked(name, "--data-root", str(tmp_path))
    assert code == 1
    assert "FAILS  split                10 of the test images are trained on" in out
    assert out.count("FAILS") == 1


def digits_in_folders(place: Path, count: int) -> None:
    bunch = load_digits()
    for number, (pixels, label) in enumerate(zip(bunch.images[:count], bunch.target[:count], strict=True)):
        (place / f"digit {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(place / f"digit {label}" / f"{number}.png")


@full
def test_paths_are_compared_on_a_folder_of_ones_own_with_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_in_folders(tmp_path / "my digits", 200)
    command = ["ablate", "--experiment", "paths", "--set", "data=folder:my digits", "--set", "meters=accuracy"]
    command += ["--set", "seeds=1", "--set", "epochs=1", "--set", "image_size=14", "--set", "workers=0"]
    code, out, err = run_in(tmp_path, *command)
    assert code == 0, err
    records = [json.loads(line) for line in (tmp_path / "results/paths/records.jsonl").read_text().splitlines()]
    assert len(records) == 6
    assert {record["values"]["test_images"] for record in records} == {40}
    assert all("80 to 20" in record["values"]["told"] for record in records)
    monkeypatch.chdir(tmp_path)
    assert "6 cells, 6 done" in CliRunner().invoke(app, [*command, "--dry-run"]).stdout
    (tmp_path / "my digits" / "digit 3" / "3.png").unlink()
    assert "6 cells, 0 done" in CliRunner().invoke(app, [*command, "--dry-run"]).stdout
