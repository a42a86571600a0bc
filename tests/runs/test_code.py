"""A cell's key follows the code that the cell runs, and no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from package import ROOT

# What is edited, and which of the rows below lose their numbers.
ROWS = (
    "nano acmix",
    "nano conv3x3",
    "nano fused",
    "resnet26 acmix",
    "swin-t acmix",
    "swin-t plain",
    "san10 acmix",
    "pvt-t acmix",
)
SCRIPT = """
import json, sys
from acmix_bench import backbones
from acmix_bench.runs.code import code_of
from acmix_bench.spec import library
from acmix_bench.spec.cell import Row
found = {}
for name in json.loads(sys.argv[1]):
    backbone, variant = name.split()
    row = Row(label=name, variant=library.load_variant(variant), case=backbones.case_of(backbone))
    for meter in ("params", "inference", "accuracy"):
        found[f"{name} {meter}"] = code_of(row, meter)
assert "torch" not in sys.modules
print(json.dumps(found))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout of its own, to be edited. What Python has compiled comes along, for the tests' time."""
    for name in ("acmix_bench", "variants", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def versions(checkout: Path) -> dict[str, str]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(ROWS)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    ended = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


@cache
def untouched() -> dict[str, str]:
    return versions(ROOT)


def changed(checkout: Path, file: str, text: str) -> set[str]:
    """The rows whose code is another one after a line was added to a file."""
    before = untouched()
    path = checkout / "acmix_bench" / file
    path.write_text(path.read_text() + f"\n{text}\n")
    after = versions(checkout)
    return {name for name in before if before[name] != after[name]}


def rows(*names: str, meters: tuple[str, ...] = ("params", "inference", "accuracy")) -> set[str]:
    return {f"{name} {meter}" for name in names for meter in meters}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("backbones/resnet.py", rows("resnet26 acmix")),
        ("backbones/nano.py", rows("nano acmix", "nano conv3x3", "nano fused")),
        ("backbones/fuse.py", rows("nano fused")),
        ("ops/window.py", rows("swin-t acmix")),
        ("ops/attention.py", rows("nano acmix", "nano fused", "resnet26 acmix", "san10 acmix")),
        ("ops/plain.py", rows("nano conv3x3", "nano fused")),
        ("ops/convolution.py", rows(*(row for row in ROWS if row not in ("nano conv3x3", "swin-t plain")))),
        ("backbones/build.py", rows(*ROWS)),
        ("meters/subject.py", rows(*ROWS)),
        ("meters/latency.py", rows(*ROWS, meters=("inference",))),
        ("meters/conditions.py", rows(*ROWS, meters=("inference", "accuracy"))),
        ("stats.py", rows(*ROWS, meters=("inference",))),
        ("train/loop.py", rows(*ROWS, meters=("accuracy",))),
        ("data/digits.py", rows("nano acmix", "nano conv3x3", "nano fused", meters=("accuracy",))),
        ("report/rounding.py", set()),
        ("spec/library.py", set()),
        ("backbones/features.py", set()),
    ],
)
def test_an_edit_throws_away_the_numbers_that_it_may_change(file: str, expected: set[str], copy: Path) -> None:
    assert changed(copy, file, "CHANGED = 1") == expected


@pytest.mark.parametrize("file", ["ops/acmix.py", "meters/latency.py", "backbones/build.py"])
def test_comments_docstrings_and_layout_change_nothing(file: str, copy: Path) -> None:
    path = copy / "acmix_bench" / file
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"""')
    lines[0] = '"""Told in another way. ' + lines[0][3:]
    path.write_text("# a comment\n" + "\n\n".join(lines) + "\n\n\n# and another\n")
    assert versions(copy) == untouched()


def test_a_new_entry_in_a_table_of_contents_changes_nothing(copy: Path) -> None:
    text = 'BACKBONES["more"] = Backbone(summary="one more", build=_nano, image_size=8)'
    assert changed(copy, "backbones/__init__.py", text) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "backbones/__init__.py",
            "return resnet(depths, operator",
            "return resnet(depths[:1], operator",
            rows("resnet26 acmix"),
        ),
        ("ops/__init__.py", "return WindowACmix(*sizes, **axes)", "return WindowACmix(*sizes)", rows("swin-t acmix")),
        ("spec/variant.py", 'into weights", fuses=True)', 'into weights")', rows("nano fused")),
    ],
)
def test_what_a_declaration_does_is_part_of_what_it_runs(
    file: str, old: str, new: str, expected: set[str], copy: Path
) -> None:
    before, path = untouched(), copy / "acmix_bench" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    after = versions(copy)
    assert {name for name in before if before[name] != after[name]} == expected


def test_the_depth_of_a_backbone_is_part_of_it(copy: Path) -> None:
    before, path = untouched(), copy / "acmix_bench" / "backbones" / "__init__.py"
    path.write_text(path.read_text().replace("depths=(1, 2, 4, 1))", "depths=(1, 2, 4, 2))"))
    after = versions(copy)
    assert {name for name in before if before[name] != after[name]} == rows("resnet26 acmix")


MINE = """
import sys
from acmix_bench import backbones
from acmix_bench.runs.code import code_of
from acmix_bench.spec import library
from acmix_bench.spec.cell import Row
(variant,) = library.expand(f"operator={sys.argv[1]}", library.load_variant("acmix"))
print(code_of(Row(label="mine", variant=variant, case=backbones.case_of("nano")), "params"))
"""


def version_of_mine(folder: Path, reference: str) -> str:
    code = "import sys; sys.path.append('')\n" + MINE
    ended = subprocess.run(
        [sys.executable, "-c", code, reference], cwd=folder, check=True, capture_output=True, text=True
    )
    return ended.stdout


@pytest.mark.parametrize("reference", ["mixers.py:Mixer", "mixers:Mixer"])
def test_what_an_operator_of_mine_imports_is_part_of_its_key(reference: str, tmp_path: Path) -> None:
    (tmp_path / "mixers.py").write_text("from torch import nn\nimport helper\nclass Mixer(nn.Identity): ...\n")
    (tmp_path / "helper.py").write_text("from package_of_mine.deep import factor\n")
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine" / "__init__.py").write_text("")
    deep = tmp_path / "package_of_mine" / "deep.py"
    deep.write_text("factor = 1\n")
    (tmp_path / "beside.py").write_text("unrelated = 1\n")
    before = version_of_mine(tmp_path, reference)
    deep.write_text("factor = 1  # the same\n")
    (tmp_path / "beside.py").write_text("unrelated = 2\n")
    assert version_of_mine(tmp_path, reference) == before
    deep.write_text("factor = 2\n")
    assert version_of_mine(tmp_path, reference) != before


def test_a_package_of_mine_may_import_relatively(tmp_path: Path) -> None:
    package = tmp_path / "mixing"
    package.mkdir()
    (package / "__init__.py").write_text("from .layers import Mixer\n")
    (package / "layers.py").write_text("from torch import nn\nfrom . import sizes\nclass Mixer(nn.Identity): ...\n")
    (package / "sizes.py").write_text("size = 1\n")
    before = version_of_mine(tmp_path, "mixing:Mixer")
    (package / "sizes.py").write_text("size = 2\n")
    assert version_of_mine(tmp_path, "mixing:Mixer") != before


def test_a_package_without_init_may_import_relatively(tmp_path: Path) -> None:
    (tmp_path / "apart" / "ops").mkdir(parents=True)
    layers, sizes = tmp_path / "apart" / "ops" / "layers.py", tmp_path / "apart" / "sizes.py"
    layers.write_text("from torch import nn\nfrom ..sizes import size\nclass Mixer(nn.Identity): ...\n")
    sizes.write_text("size = 1\n")
    before = version_of_mine(tmp_path, "apart.ops.layers:Mixer")
    sizes.write_text("size = 2\n")
    assert version_of_mine(tmp_path, "apart.ops.layers:Mixer") != before


def test_what_mine_reaches_through_a_table_of_contents_is_followed(tmp_path: Path) -> None:
    (tmp_path / "wrap.py").write_text(
        "from acmix_bench import ops\nimport __main__\nclass Mixer: make = ops.ATTENTIONS\n"
    )
    code = "import sys; sys.path.append('')\nfrom pathlib import Path\nfrom acmix_bench.runs.code import _closure\n"
    code += "print(*(path.name for path in _closure(frozenset([Path('wrap.py').resolve()]))))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert {"wrap.py", "acmix.py", "window.py"} <= set(ended.stdout.split())
    assert "module.py" not in ended.stdout, "torch's own is not followed"


def test_libraries_are_not_followed_wherever_they_lie(tmp_path: Path) -> None:
    """As they do below PYTHONPATH, where a folder was filled by `pip install --target`."""
    library = tmp_path / "libraries" / "heavy"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("value = 1\n")
    (library.parent / "heavy-1.0.dist-info").mkdir()
    (tmp_path / "mixers.py").write_text("import heavy\nfrom torch import nn\nclass Mixer(nn.Identity): ...\n")
    code = f"import sys; sys.path += ['', {str(library.parent)!r}]\n" + MINE
    command = [sys.executable, "-c", code, "mixers.py:Mixer"]
    before = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    (library / "__init__.py").write_text("value = 2\n")
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == before


def test_a_function_that_is_bound_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from functools import partial\nfrom acmix_bench.backbones import Backbone\ndef act(): ...\n"
        "def build(operator, *, act, **sizes): ...\n"
        "NET = Backbone(summary='bound', build=partial(build, act=act), image_size=8)\n"
    )
    code = MINE.replace('case_of("nano")', 'case_of("nets.py:NET")')
    command = [sys.executable, "-c", code, "conv"]
    first, second = (subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout for _ in range(2))
    assert first == second


def test_a_class_of_torch_itself_is_taken(tmp_path: Path) -> None:
    assert version_of_mine(tmp_path, "torch.nn:Identity").strip()
