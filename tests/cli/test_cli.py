"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from full import full
from package import QUICK, ROOT, run_in, start
from PIL import Image
from released import resnet_state

from acmix_bench.spec import library


def acmix_bench(*arguments: str, folder: Path) -> tuple[int, str, str]:
    return run_in(folder, *arguments)


SHOWN = ["status", "paths", "--results", str(ROOT / "results/shown")]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["show", "paths"], ["ablate", "--help"], ["ablate", "-e", "paths", "--dry-run"], SHOWN],
)
def test_quick_commands_import_no_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from acmix_bench.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'fvcore'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_list_names_everything(tmp_path: Path) -> None:
    code, out, _ = acmix_bench("list", folder=tmp_path)
    assert code == 0
    for name in ("shift-tensor", "paths", "nano", "digits", "accuracy", "imagenet", "epochs"):
        assert f"  {name}" in out


def test_a_row_that_does_not_fit_a_backbone_is_withheld(tmp_path: Path) -> None:
    """The paths experiment has a row with a plain convolution, which Swin has no place for."""
    settings = ["--set", "backbone=swin-t", "--set", "image_size=64", "--set", "meters=params"]
    code, out, err = acmix_bench("ablate", "--experiment", "paths", *settings, folder=tmp_path)
    assert code == 1
    assert "operator=conv is withheld: operator=conv on swin-t@64: swin-t has window attention" in err
    assert re.search(r"operator=conv +withheld", out)
    assert re.search(r"paths=conv +\d", out)
    code, out, err = acmix_bench("ablate", "--variant", "conv3x3", *settings, folder=tmp_path)
    assert (code, out) == (2, ""), "what was asked for by hand must fit"
    assert "operator=conv does not fit it" in err


@full
def test_two_experiments_of_one_stem_keep_apart(tmp_path: Path) -> None:
    quick = ["--set", "meters=params"]
    assert acmix_bench("ablate", "-e", "smoke", *quick, folder=tmp_path)[0] == 0
    (tmp_path / "smoke.yaml").write_text(library.known("experiment")["smoke"].path.read_text())
    code, out, err = acmix_bench("ablate", "-e", "smoke.yaml", *quick, folder=tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "holds a run of another experiment named smoke" in err
    assert acmix_bench("ablate", "-e", "smoke.yaml", *quick, "--results", "mine", folder=tmp_path)[0] == 0


def test_the_home_is_known_as_the_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = ["--set", "backbone=resnet26", "--set", "data=imagenet", "--set", "data_root=~/data"]
    code, _, err = acmix_bench("ablate", *settings, "--set", "meters=accuracy", folder=tmp_path)
    assert code == 2
    assert f"{tmp_path}/home/data/imagenet/train: no such folder" in err


def test_an_incomplete_ledger_is_equal_to_nothing(tmp_path: Path) -> None:
    """torch's own attention multiplies beside its layers, and runs as an operation that no book knows."""
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "operators_of_mine.py").read_text())
    code, out, err = acmix_bench("flops", "--variant", "operator=mine.py:Attends", folder=tmp_path)
    assert code == 0, err
    line = next(line for line in out.partition("Cost ledger")[2].splitlines() if "Attends" in line)
    assert "(=)" not in line.partition("M")[0]
    assert line.count("≥") == 2
    assert "No formula" in out


@full
def test_integers_of_any_library_are_counted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "operators_of_mine.py").read_text())
    mine = ["--variant", "operator=mine.py:Miscounted,kind=numpy_int,number", "--set", "meters=params,macs"]
    code, out, err = acmix_bench("ablate", *mine, folder=tmp_path)
    assert code == 1
    assert "Miscounted.macs: must give a dict of multiply-adds by stage, and gave 123" in " ".join(out.split())
    code, again, _ = acmix_bench("ablate", *mine, folder=tmp_path)
    assert code == 1
    assert again.count("Miscounted.macs") == out.count("Miscounted.macs")
    code, out, _ = acmix_bench("flops", *mine, "--json", folder=tmp_path)
    assert json.loads(out)[1]["macs_stage_1"] == 35


def test_ablate_from_a_variant_alone_then_table_and_plot(tmp_path: Path) -> None:
    command = ["ablate", "--variant", "shift=tensor", *QUICK]
    code, out, err = acmix_bench(*command, "--dry-run", folder=tmp_path)
    assert code == 0
    assert "16 cells, 0 done" in out
    assert not (tmp_path / "results").exists(), "a dry run leaves nothing"

    code, out, err = acmix_bench(*command, folder=tmp_path)
    assert code == 0
    assert all("cells" in line for line in err.splitlines()), "only the progress of a slow machine"
    assert "baseline" in out
    assert "shift=tensor" in out
    records = (tmp_path / "results/custom/records.jsonl").read_text().splitlines()
    assert len(records) == 16
    assert all(json.loads(line)["status"] == "ok" for line in records)

    code, again, err = acmix_bench(*command, folder=tmp_path)
    assert code == 0
    assert again == out
    assert "nothing was left to measure" in err

    for style, start_of_table in (("md", "**custom:"), ("csv", "variant,"), ("tex", "% Needs "), ("text", "custom:")):
        code, table, _ = acmix_bench("table", "custom", "--format", style, folder=tmp_path)
        assert code == 0
        assert table.startswith(start_of_table)
    assert (tmp_path / "results/custom/table.csv").read_text().startswith("variant,")

    code, out, _ = acmix_bench("plot", "custom", folder=tmp_path)
    assert (code, out) == (0, "custom.png\n")
    assert (tmp_path / "custom.png").stat().st_size > 10_000


def test_ctrl_c_keeps_the_finished_cells(tmp_path: Path) -> None:
    records = tmp_path / "results/custom/records.jsonl"
    process = start("ablate", "--variant", "shift=tensor", "--set", "epochs=50", *QUICK[:6], folder=tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (records.exists() and records.read_text().count("\n") >= 5):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: what is finished is kept" in err
    assert "Traceback" not in err
    lines = records.read_text().splitlines()
    assert len(lines) >= 5
    assert all(json.loads(line) for line in lines)
    assert "are not measured" in out
    assert (tmp_path / "results/custom/table.md").exists()


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.5, 3.0])
def test_ctrl_c_while_starting_is_one_line(seconds: float, tmp_path: Path) -> None:
    """From the moment at which the first file of ours is read."""
    (tmp_path / "sitecustomize.py").write_text("print('started', flush=True)")
    process = start("ablate", "-e", "smoke", folder=tmp_path, path=tmp_path)
    assert process.stdout.readline() == "started\n"
    time.sleep(0.15 + seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # Python itself ends by the signal where it came within an `exec` of an import; a shell says 130 of both.
    assert process.returncode in (130, -signal.SIGINT)
    assert err.startswith("interrupted")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablate", "-e", "pahts"], "unknown experiment 'pahts'; did you mean 'paths'?"),
        (["ablate", "-v", "shif=tensor"], "unknown axis 'shif'; did you mean 'shift'?"),
        (["ablate", "-v", "shift=tensr"], "unknown value 'tensr'; did you mean 'tensor'?"),
        (["ablate", "-v", "shift-tensr"], "unknown variant 'shift-tensr'; did you mean 'shift-tensor'?"),
        (["ablate", "-v", "shift="], "is not axis=value"),
        (["ablate", "--set", "data=cifar"], "unknown data set 'cifar'"),
        (["ablate", "--set", "image_size=8"], "reflection padding by 3 needs at least 4"),
        (["ablate", "-v", "heads=5"], "32 channels do not divide into 5 heads"),
        (["ablate", "-v", "broken.yaml"], "broken.yaml, line 1: not valid YAML"),
        (["ablate", "-e", "smoke", "--results", "broken.yaml"], "cannot be written"),
        (["flops", "nano-acmx"], "unknown variant 'acmx'; did you mean 'acmix'?"),
        (["throughput", "nano", "nano"], "nano and nano are one and the same measurement; leave one out"),
        (
            ["ablate", "-e", "speed", "--set", "implementation=reference"],
            "are one and the same measurement with",
        ),
        (["ablate", "-e", "memory", "--set", "image_size=112"], "image_size, head and size have no effect there"),
        (["throughput", "nano", "--set", "image_size=28"], "image_size, head and size have no effect there"),
        (["ablate", "--set", "implementation=compild"], "unknown value 'compild'"),
        (["flops", "nano", "-v", "acmix"], "give models or variants, not both"),
        (["train", "-v", "shift=tensor,group"], "train takes one variant"),
        (["ablate", "--set", "image_size=0"], "image_size='0': input should be greater than or equal to 1"),
        (["ablate", "--set", "timeout=inf"], "timeout='inf': input should be a finite number"),
        (["ablate", "--set", "meters=param"], "unknown meter 'param'; did you mean 'params'?"),
        (["ablate", "-v", "operator=sys:Foo"], "no Python module named 'sys'"),
        (["ablate", "-v", "operator=.x:Foo"], "no Python module named '.x'"),
        (["ablate", "-v", "paths=conv,window=3"], "window has no effect with operator=acmix, paths=conv"),
        (["flops", "pvt-t@20"], "pvt-t@20 on pvt-t@20: the sizes do not fit"),
        (["flops", "nano@0"], "'0' is not an image size in pixels"),
        (["flops", "swin-t-shift-tensr"], "unknown variant 'shift-tensr'; did you mean 'shift-tensor'?"),
        (["flops", "swin-t-conv3x3"], "swin-t has window attention; operator=conv does not fit it"),
        (["table", "paths"], "unknown run 'paths'"),
        (["table", "broken.yaml", "--format", "csv"], "unknown run 'broken.yaml'"),
        (["table", "broken.yaml", "--format", "xls"], "unknown format 'xls' (known: csv"),
        (["show", "pathz"], "unknown name 'pathz'; did you mean 'paths'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("summary: [")
    code, out, err = acmix_bench(*arguments, folder=tmp_path)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"], "nothing is left behind"


def test_flops_prints_the_counters_beside_the_closed_form(tmp_path: Path) -> None:
    code, out, _ = acmix_bench("flops", "operator-64-acmix@28", "--layers", folder=tmp_path)
    assert code == 0
    assert "-24.6 %" in out
    assert "17.8 k" in out
    assert "aten::mul" in out
    assert "Layers of operator-64-acmix@28" in out
    code, out, _ = acmix_bench("flops", "operator-64-acmix@28", "--json", folder=tmp_path)
    (row,) = json.loads(out)
    assert row["macs"] == 784 * (3 * 64**2 + 2 * 49 * 64 + 27 * 64 + 81 * 64 + 2 * 16)
    assert row["parameters"] == 17_822


def test_throughput_and_train_print_their_numbers(tmp_path: Path) -> None:
    code, out, _ = acmix_bench("throughput", "operator-16@8", "operator-16-acmix@8", *QUICK[:4], folder=tmp_path)
    assert code == 0
    assert "operator-16-acmix@8" in out
    code, out, err = acmix_bench("train", "-v", "conv3x3", "--set", "epochs=1", folder=tmp_path)
    assert code == 0
    assert err.startswith("epoch 1: loss")
    assert out.startswith("top-1 ")


def test_models_are_set_beside_their_published_figures(tmp_path: Path) -> None:
    code, out, _ = acmix_bench("flops", "resnet26-acmix", "swin-t@64", folder=tmp_path)
    assert code == 0
    assert "Against published figures" in out
    assert "10.49 (=)" in out
    assert "10.6 (-1.1 %)" in out
    assert out.count("swin-t@64") >= 2
    assert "28.29 (=)" not in out, "figures for 224x224 do not stand beside another size"


def test_weights_are_imported_and_used(tmp_path: Path) -> None:
    torch.save(resnet_state(), tmp_path / "released.pth")
    Image.new("RGB", (60, 40), (200, 30, 10)).save(tmp_path / "red.png")
    command = ["import-weights", "released.pth", "--model", "resnet26-acmix", "--out", "ours.safetensors"]
    code, out, _ = acmix_bench(*command, folder=tmp_path)
    assert (code, out.split()[1:]) == (0, ["tensors", "in", "ours.safetensors"])
    use = ["predict", "--model", "resnet26-acmix", "--weights", "ours.safetensors"]
    code, out, _ = acmix_bench(*use, "red.png", folder=tmp_path)
    assert code == 0
    assert out.startswith("red.png\n")
    assert out.count("%") == 5
    code, out, err = acmix_bench(*use, "blue.png", folder=tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 2)
    assert "blue.png: cannot be read" in err
    code, out, err = acmix_bench(*command[:3], "resnet26", *command[4:], folder=tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "missing: layer1.0.conv2.weight" in err
    assert "surplus: layer1.0.conv2.conv1.bias" in err
