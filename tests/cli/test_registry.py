"""Everything that has a name, through the commands that take it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from full import full
from package import QUICK, run_in
from typer.testing import CliRunner

from acmix_bench import backbones, meters, ops
from acmix_bench.cli import COMMANDS, app
from acmix_bench.runs import contract, contract_operator

DENSE = ("miou", "ap")  # tests/cli/test_dense_commands.py measures them


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


def test_show_knows_models_and_what_is_wrong_with_them() -> None:
    shown = CliRunner().invoke(app, ["show", "resnet50-acmix"])
    assert shown.stdout.startswith("resnet50-acmix: ResNet-50")
    assert "18.334 M parameters, 3.502 G MACs" in shown.stdout
    assert "56x56" in CliRunner().invoke(app, ["show", "operator-64-acmix@56"]).stdout
    for name, told in (
        ("resnet50-acmx", "unknown variant 'acmx'; did you mean 'acmix'?"),
        ("operator-64@x", "'x' is not an image size"),
        ("nothing", "unknown name 'nothing'"),
        ("imagenett", "did you mean 'imagenet'? (known: imagenet"),
    ):
        message = str(CliRunner().invoke(app, ["show", name]).exception)
        assert told in message
        assert len(message) < 160


def test_a_section_of_list_is_part_of_all() -> None:
    everything = CliRunner().invoke(app, ["list"]).stdout
    asked = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    for section, entries in asked.items():
        printed = CliRunner().invoke(app, ["list", section]).stdout
        assert printed.rstrip("\n") in everything
        assert json.loads(CliRunner().invoke(app, ["list", section, "--json"]).stdout) == {section: entries}
        assert all(f"  {name} " in printed for name in entries)
    assert "unknown section 'bakbones'; did you mean 'backbones'?" in str(
        CliRunner().invoke(app, ["list", "bakbones"]).exception
    )


def test_version_and_short_help() -> None:
    version = CliRunner().invoke(app, ["--version"]).stdout
    assert version.startswith("acmix-bench 0.")
    assert "torch 2." in version
    for command in COMMANDS:
        assert CliRunner().invoke(app, [command, "-h"]).stdout == CliRunner().invoke(app, [command, "--help"]).stdout


NAMES = [name.replace("operator-C", "operator-16") for name in backbones.BACKBONES]


def test_every_backbone_is_counted_as_a_model(tmp_path: Path) -> None:
    code, out, err = run_in(tmp_path, "flops", *NAMES, "--set", "meters=params")
    assert code == 0, err
    assert all(re.search(rf"^{name} +[\d.]+ [kM]$", out, re.MULTILINE) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_is_planned_as_that_of_an_experiment(name: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path), "--set", "meters=params"]
    planned = CliRunner().invoke(app, ["ablate", "--set", f"backbone={name}", "--dry-run", *results])
    assert planned.exit_code == 0, planned.exception
    assert "1 cell, 0 done" in planned.stdout


def test_every_meter_is_measured_by_its_name(tmp_path: Path) -> None:
    names = sorted(set(meters.METERS) - set(DENSE))
    code, out, err = run_in(tmp_path, "ablate", "-v", "conv3x3", *QUICK, "--set", f"meters={','.join(names)}")
    assert code == 0, err
    records = (tmp_path / "results/custom/records.jsonl").read_text()
    assert all(f'"meter":"{name}"' in records for name in names)
    code, told, _ = run_in(tmp_path, "compare", "custom", "custom")
    assert code == 0
    assert "operator=conv" in told


@pytest.mark.parametrize("attention", sorted(ops.ATTENTIONS))
@pytest.mark.parametrize("name", sorted(ops.OPERATORS))
def test_every_operator_keeps_its_contract(name: str, attention: str) -> None:
    if name == "conv" and attention != "local":
        return
    found = contract_operator.promises(name, attention)
    assert [promise.told for promise in found if promise.holds is False] == []


@pytest.mark.parametrize(
    "name",
    [
        *("nano", "operator-8", "digits", "cluttered", "semantic-fpn", "retinanet"),
        *sorted(set(meters.METERS) - {"accuracy", *DENSE}),
        *(pytest.param(name, marks=full) for name in ("upernet", "mask-rcnn", "cascade-mask-rcnn", *DENSE)),
    ],
)
def test_what_comes_with_the_package_keeps_its_contract(name: str) -> None:
    found = contract.promises(name, "local", "data")
    assert [promise.told for promise in found if promise.holds is False] == []
    assert any(promise.holds for promise in found)
