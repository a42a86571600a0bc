"""What a user brings, by reference and by the name that an installed package gives it, through every command."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from package import QUICK, ROOT, run_in

from acmix_bench import backbones, data, meters, ops
from acmix_bench.backbones import Backbone
from acmix_bench.errors import UserError
from acmix_bench.spec import plugins

MINE = "operators_of_mine.py"
ODD = """
from acmix_bench.backbones import Backbone
from acmix_bench.data import DataSet
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.meter import Meter
NET = Backbone(summary="no network", build=lambda operator, **sizes: 3, image_size=14)
TURNED = Backbone(summary="no such attention", build=lambda operator, **sizes: 3, image_size=14, attention="vertical")
DATA = DataSet(summary="no images", load=lambda size, root: 3, channels=1, classes=2)
AXIS = Axis(meaning="no network", values=(1, 2), apply=lambda model, value: "no")
EMPTY = Axis(meaning="nothing")
METER = Meter(summary="reads what is not there", measure=lambda subject: {}, reads=("dtpye",))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed as from outside."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, str(ROOT / "examples" / "mixers")], check=True, capture_output=True)
    return folder


def call(*arguments: str, folder: Path, site: Path) -> tuple[int, str, str]:
    return run_in(folder, *arguments, path=site)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("operator", "pooled"), ("backbone", "tiny"), ("data set", "stripes"), ("meter", "depth"), ("axis", "activation")],
)
def test_what_a_package_brings_is_listed_shown_and_keeps_its_contract(
    kind: str, name: str, site: Path, tmp_path: Path
) -> None:
    _, listed, _ = call("list", folder=tmp_path, site=site)
    assert re.search(rf"^  {name} +\(mixers\.", listed, re.MULTILINE)
    code, shown, _ = call("show", name, folder=tmp_path, site=site)
    assert code == 0
    assert shown.startswith(f"{name}: ")
    code, checked, _ = call("check", name, folder=tmp_path, site=site)
    assert code == 0
    assert checked.startswith(f"{kind} {name}")
    assert "FAILS" not in checked


def test_one_of_each_is_measured_by_its_name_alone(site: Path, tmp_path: Path) -> None:
    """In the tables, the CSV, the counts and the gate, without a line changed here."""
    command = ["ablate", "--variant", "operator=pooled,window=3,5", "--variant", "activation=gelu", *QUICK]
    command += ["--set", "backbone=tiny", "--set", "data=stripes", "--set", "meters=params,depth,inference,accuracy"]
    code, out, err = call(*command, folder=tmp_path, site=site)
    assert code == 0, err
    labels = ["baseline", "operator=pooled,window=3", "operator=pooled,window=5", "activation=gelu"]
    assert all(label in out for label in labels)
    assert "top-1: stripes, 1 epoch, 1 seed" in out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results/custom/table.csv").read_text())))
    assert [row["variant"] for row in rows] == labels
    assert [int(row["depth"]) for row in rows] == [8, 6, 6, 8]
    assert {row["backbone"] for row in rows} == {"tiny"}
    code, out, _ = call("compare", "custom", "custom", "--json", folder=tmp_path, site=site)
    found = json.loads(out)["findings"]
    assert code == 0
    assert {finding["label"] for finding in found if finding["metric"] == "depth"} == set(labels)

    code, out, _ = call("flops", "tiny-acmix@24", "--set", "meters=params,depth", "--json", folder=tmp_path, site=site)
    assert (code, json.loads(out)[0]["depth"]) == (0, 8)
    code, out, _ = call("flops", "--variant", "activation=gelu", "--set", "data=stripes", folder=tmp_path, site=site)
    assert (code, "activation=gelu" in out) == (0, True)
    train = ["train", "--variant", "operator=pooled", "--set", "backbone=tiny", "--set", "data=stripes"]
    assert call(*train, "--set", "epochs=1", folder=tmp_path, site=site)[0] == 0


def test_more_of_what_a_meter_of_mine_counts_is_a_regression(site: Path, tmp_path: Path) -> None:
    command = ["ablate", "--variant", "activation=gelu", "--set", "backbone=tiny", "--set", "meters=depth"]
    assert call(*command, folder=tmp_path, site=site)[0] == 0
    records = tmp_path / "results" / "custom" / "records.jsonl"
    head = tmp_path / "head"
    head.mkdir()
    (head / "run.json").write_text((records.parent / "run.json").read_text())
    (head / "records.jsonl").write_text(records.read_text().replace('"depth":8', '"depth":9'))
    code, _, err = call("compare", "custom", str(head), folder=tmp_path, site=site)
    assert code == 3
    assert "regression: activation=gelu: depth" in err


def test_yaml_names_what_is_mine(site: Path, tmp_path: Path) -> None:
    words = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / "wide.yaml").write_text(
        "summary: s\nclaim: c\noperator: pooled\noptions: {window: 5}\nactivation: gelu\n"
    )
    content = words | {"variants": ["wide"], "backbone": "tiny", "data": "stripes", "meters": ["params", "depth"]}
    (tmp_path / "experiments" / "study.yaml").write_text(json.dumps(content))
    code, out, err = call("ablate", "--experiment", "study", folder=tmp_path, site=site)
    assert code == 0, err
    assert "operator=pooled,activation=gelu,window=5" in out
    _, listed, _ = call("list", folder=tmp_path, site=site)
    assert re.search(r"^  wide +s \(yours\)", listed, re.MULTILINE)
    assert re.search(r"^  study +a test \(yours\)", listed, re.MULTILINE)


def test_a_file_will_do(tmp_path: Path) -> None:
    """A path, also with a blank, from any folder; what lies beside the file can be imported."""
    folder = tmp_path / "my study"
    folder.mkdir()
    (folder / "helper.py").write_text("GAIN = 2.0")
    (folder / "mine.py").write_text(
        "import helper\nfrom torch import nn\nfrom acmix_bench.backbones import Backbone\n"
        "class Mixer(nn.Conv2d):\n"
        "    def __init__(self, in_channels, channels, *, stride=1, gain=helper.GAIN):\n"
        "        super().__init__(in_channels, channels, 1, stride)\n"
        "        self.gain = gain\n"
        "def build(operator, *, in_channels, num_classes, image_size):\n"
        "    head = nn.Linear(4 * image_size**2, num_classes)\n"
        "    return nn.Sequential(operator(in_channels, 4, stride=1), nn.Flatten(), head)\n"
        "NET = Backbone(summary='one layer', build=build, image_size=8)\n"
    )
    code, out, err = run_in(tmp_path, "flops", "--variant", "operator=my study/mine.py:Mixer,gain=1,3.5")
    assert code == 0, err
    assert "operator=my study/mine.py:Mixer,gain=3.5" in out
    code, out, err = run_in(tmp_path, "flops", "my study/mine.py:NET-conv3x3@12", "--json")
    assert (code, json.loads(out)[0]["parameters"]) == (0, 4 * 9 + 4 * 144 * 10 + 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablate", "-v", "operator=mixers.py:M"], "operator 'mixers.py:M': there is no such file; write"),
        (["ablate", "-v", "operator=mixers.py"], "unknown operator 'mixers.py'"),
        (["ablate", "-v", f"operator={MINE}:Wroks"], "unknown name 'Wroks'; did you mean 'Works'"),
        (["ablate", "-v", f"operator={MINE}:Works,gian=2"], "unexpected keyword argument 'gian'"),
        (["ablate", "--set", f"backbone={MINE}:Works"], "must be a Backbone of acmix_bench"),
        (["ablate", "--set", f"data={MINE}:Works"], "must be a DataSet of acmix_bench"),
        (["ablate", "--set", f"meters={MINE}:Works"], "must be a Meter of acmix_bench"),
        (["ablate", "-v", f"{MINE}:Works=3"], "must be an Axis of acmix_bench"),
        (["ablate", "--set", "meters=broken.py:M"], "cannot be imported (ValueError: no luck)"),
        (["ablate", "--set", "meters=syntax.py:M"], "cannot be imported (SyntaxError: "),
        (["ablate", "--set", "meters=imports.py:M"], "there is no module named 'nowhere_at_all'"),
        (["flops", "nope.py:NET"], "there is no such file"),
        (
            ["ablate", "--set", "backbone=odd.py:NET"],
            "odd.py:NET: its builder must return a torch module, and returned 3",
        ),
        (["ablate", "--set", "backbone=odd.py:TURNED"], "backbone odd.py:TURNED: unknown attention 'vertical'"),
        (["ablate", "--set", "data=odd.py:DATA"], "data set odd.py:DATA: its loader must return Splits, and returned"),
        (["ablate", "-v", "odd.py:AXIS=2"], "axis odd.py:AXIS: apply must return a torch module, and returned 'no'"),
        (["ablate", "-v", "odd.py:AXIS=3"], "odd.py:AXIS: unknown value '3' (known: 1, 2)"),
        (["ablate", "-v", "odd.py:EMPTY=1"], "an axis of your own needs values, the default first"),
        (["ablate", "--set", "meters=odd.py:METER"], "meter odd.py:METER: reads: unknown key of the protocol 'dtpye'"),
        (["show", f"{MINE}:Nope"], "unknown name 'Nope'"),
        (["check", "nope"], "unknown name 'nope'"),
        (["check", f"{MINE}:Works", "--attention", "vertical"], "unknown attention 'vertical'"),
    ],
)
def test_a_mistake_in_a_reference_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / MINE).write_text((ROOT / "tests" / MINE).read_text())
    (tmp_path / "broken.py").write_text("raise ValueError('no luck')")
    (tmp_path / "syntax.py").write_text("def M(:\n")
    (tmp_path / "imports.py").write_text("import nowhere_at_all\n")
    (tmp_path / "odd.py").write_text(ODD)
    code, out, err = run_in(tmp_path, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert not (tmp_path / "results").exists()


def test_the_tables_of_contents_hold_what_they_promise() -> None:
    """Every entry can be found by its name, and what it names can be imported."""
    for find, table in ((data.find, data.DATASETS), (meters.find, meters.METERS)):
        assert all(find(name) is entry for name, entry in table.items())
    for name, entry in backbones.BACKBONES.items():
        assert backbones.find("operator-8" if name == "operator-C" else name) is entry
        assert entry.attention in ops.ATTENTIONS
    with pytest.raises(UserError, match="write the number of channels for C"):
        backbones.find("operator-C")


def test_a_declaration_of_another_form_is_refused() -> None:
    with pytest.raises(UserError, match="backbone 'json:dumps' is a function, but must be a Backbone"):
        plugins.find("backbone", "json:dumps", {}, Backbone)


def test_an_operator_of_mine_fits_every_family(tmp_path: Path) -> None:
    """One class a family, by the arguments that the family gives."""
    (tmp_path / "families.py").write_text(
        "from torch import nn\n"
        "class Window(nn.Module):\n"
        "    def __init__(self, channels, heads, window_size):\n"
        "        super().__init__()\n"
        "        self.mix = nn.Linear(channels, channels)\n"
        "    def forward(self, x, shift=(0, 0)):\n"
        "        return self.mix(x)\n"
        "class Global(Window):\n"
        "    def forward(self, x, height, width):\n"
        "        return self.mix(x)\n"
        "class Patchwise(nn.Module):\n"
        "    def __init__(self, channels, window, *, relation):\n"
        "        super().__init__()\n"
        "        self.mix = nn.Conv2d(channels, channels // 4, 1)\n"
        "    def forward(self, x):\n"
        "        return self.mix(x)\n"
    )
    for name, attention, backbone, size in (
        ("Window", "window", "swin-t", 56),
        ("Global", "global", "pvt-t", 32),
        ("Patchwise", "patchwise", "san10", 128),
    ):
        code, out, err = run_in(tmp_path, "check", f"families.py:{name}", "--attention", attention)
        assert code == 0, out + err
        settings = ["--set", f"backbone={backbone}", "--set", f"image_size={size}", "--set", "meters=params"]
        code, out, err = run_in(tmp_path, "flops", "--variant", f"operator=families.py:{name}", *settings)
        assert code == 0, err
        assert f"operator=families.py:{name}" in out


def test_a_promise_that_does_not_hold_is_named(tmp_path: Path) -> None:
    (tmp_path / MINE).write_text((ROOT / "tests" / MINE).read_text())
    code, out, err = run_in(tmp_path, "check", f"{MINE}:Noisy")
    assert code == 1
    assert "FAILS  determinism          two passes over one input differ" in out
    assert "FAILS  batch of 1" in out
    assert "ok     odd sizes" in out
    assert "promises do not hold" in err
    code, out, _ = run_in(tmp_path, "check", f"{MINE}:Counted")
    assert code == 0
    assert "ok     macs" in out
    code, out, err = run_in(tmp_path, "check", f"{MINE}:Killed")
    assert (code, out) == (1, "")
    assert "its process was ended by SIGKILL" in err
