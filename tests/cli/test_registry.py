"""Everything that has a name, through the commands that take it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from package import run_in
from typer.testing import CliRunner

from acmix_bench import backbones, meters, ops
from acmix_bench.cli import app
from acmix_bench.run import contract_operator

QUICK = ["--set", "processes=2", "--set", "seconds=0.02", "--set", "seeds=2", "--set", "epochs=1", "--set", "batch=4"]


def names() -> list[str]:
    """Everything that `list` prints, but for what `--set` takes."""
    printed = CliRunner().invoke(app, ["list"]).stdout.partition("\nKeys of --set")[0]
    return sorted(set(re.findall(r"^  (\S+) ", printed, re.MULTILINE)))


def test_show_knows_all_that_list_names() -> None:
    assert len(names()) > 50
    for name in names():
        shown = CliRunner().invoke(app, ["show", name])
        assert shown.exit_code == 0, (name, shown.exception)
        assert name in shown.stdout
        assert "object at 0x" not in shown.stdout


@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
def test_every_backbone_can_be_shown_counted_and_planned(name: str, tmp_path: Path) -> None:
    """Its parameters, by name as a model and as the backbone of an experiment."""
    real = "operator-16" if name == "operator-C" else name
    quick = ["--set", "meters=params"]
    code, out, err = run_in(
        tmp_path, "flops", real, *([f"{real}-acmix"] if "pairwise" not in real else []), *quick, folder=tmp_path
    )
    assert code == 0, err
    assert real in out
    code, out, err = run_in(tmp_path, "ablate", "--set", f"backbone={real}", "--dry-run", *quick)
    assert code == 0, err
    assert "1 cell, 0 done" in out


@pytest.mark.parametrize("name", sorted(meters.METERS))
def test_every_meter_is_measured_by_its_name(name: str, tmp_path: Path) -> None:
    code, out, err = run_in(tmp_path, "ablate", "-v", "conv3x3", *QUICK, "--set", f"meters={name}")
    assert code == 0, err
    assert "operator=conv" in (tmp_path / "results/custom/table.csv").read_text()
    code, _, err = run_in(tmp_path, "compare", "custom", "custom")
    assert code in (0, 5), err


@pytest.mark.parametrize("attention", sorted(ops.ATTENTIONS))
@pytest.mark.parametrize("name", sorted(ops.OPERATORS))
def test_every_operator_keeps_its_contract(name: str, attention: str) -> None:
    if name == "conv" and attention != "local":
        return
    found = contract_operator.promises(name, attention)
    assert [promise.told for promise in found if promise.holds is False] == []


@pytest.mark.parametrize(
    "name", ["nano", "operator-8", "digits", "params", "macs", "parity", "inference", "training", "matmul"]
)
def test_what_comes_with_the_package_keeps_its_contract(name: str, tmp_path: Path) -> None:
    code, out, err = run_in(tmp_path, "check", name)
    assert code == 0, out + err
    assert "FAILS" not in out
