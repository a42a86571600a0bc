"""`flops` of a torch module of the user's own, by reference and the size of its input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from package import run_in

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 3, padding=1)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return {"out": self.attend(x, x, x)[0], "more": [x.mean()]}

class Looks(Net):
    def forward(self, x):
        return self.embed(x) if float(x.sum()) < 1e9 else None

def wide():
    return Net(16)

made = Net()
number = 3
class Needs(Net):
    def __init__(self, width):
        super().__init__(width)
"""
POSITIONS, WIDTH = 12 * 10, 8
CONVOLUTION = POSITIONS * WIDTH * 3 * 9
ATTENTION = 4 * POSITIONS * WIDTH**2 + 2 * POSITIONS**2 * WIDTH


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my models").mkdir()
    (tmp_path / "my models/mine.py").write_text(CODE)
    return tmp_path


def counted(folder: Path, name: str) -> dict[str, int]:
    code, out, err = run_in(folder, "flops", name, "--input", "3,12,10", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    return row


@pytest.mark.parametrize("name", ["Net", "made"])
def test_a_module_is_counted_by_class_or_as_it_is(name: str, folder: Path) -> None:
    row = counted(folder, f"my models/mine.py:{name}")
    assert row["parameters"] == 3 * WIDTH * 9 + WIDTH + 4 * (WIDTH**2 + WIDTH)
    assert row["macs"] == CONVOLUTION, "what has a formula; the table says that it is a lower bound"
    assert row["ledger"] == row["macs_executed"] == row["fvcore"] == CONVOLUTION + ATTENTION
    # The image's own gradient is asked for too, so that every product has two.
    assert row["macs_backward"] == 2 * (CONVOLUTION + ATTENTION)


def test_a_function_makes_one_too_and_values_may_be_read(folder: Path) -> None:
    assert counted(folder, "my models/mine.py:wide")["macs"] == 2 * CONVOLUTION
    assert counted(folder, "my models/mine.py:Looks")["ledger"] == CONVOLUTION


def test_a_library_s_model_is_counted(folder: Path) -> None:
    code, out, err = run_in(folder, "flops", "torchvision.models:resnet18", "--input", "3x224x224", "--json")
    assert code == 0, err
    assert json.loads(out)[0]["macs"] == 1814073344, "as torchvision's own table of weights says: 1.814 GMACs"
    out = run_in(folder, "flops", "my models/mine.py:Net", "--input", "3,12,10")[1]
    assert "of one 3x12x10 input" in out
    assert "≥" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine.py:Needs",), "missing 1 required positional argument: 'width'; name a class or function"),
        (("mine.py:number",), "'int' object is not callable"),
        (("mine.py:Nett",), "unknown name 'Nett'; did you mean 'Net'?"),
        (("none.py:Net",), "there is no such file"),
        (("resnet50",), "--input is for a model of your own; 'resnet50' has its input's size behind an @"),
        ((), "--input: say which model"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    (folder / "mine.py").write_text(CODE)
    code, out, err = run_in(folder, "flops", *arguments, "--input", "3,12,10")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_sizes_and_a_module_without_them_are_refused(folder: Path) -> None:
    for sizes in ("3,a", "", "3,0", "-1,2"):
        assert "write the sizes without the batch" in run_in(folder, "flops", "a:B", f"--input={sizes}")[2]
    (folder / "mine.py").write_text(CODE)
    err = run_in(folder, "flops", "mine.py:Net")[2]
    assert "a torch module as it is can be counted: acmix-bench flops, with --input 3,224,224" in err
