"""Two versions of the package, really served by two Pythons and timed in turns."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import acmix_bench
from acmix_bench.cli import app, main
from acmix_bench.spec import library

PACKAGE = Path(acmix_bench.__file__).parent


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    words = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
    protocol = {"batch": 2, "processes": 2, "seconds": 0.05, "threads": 1}
    path = tmp_path / "tiny.yaml"
    cells = {"models": ["operator-16-acmix@24"], "meters": ["params", "macs", "inference"], "protocol": protocol}
    path.write_text(yaml.safe_dump(words | cells))
    return path


def other_version(folder: Path, file: str, old: str, new: str) -> Path:
    """A Python whose acmix_bench differs from this one in one place."""
    shutil.copytree(PACKAGE, folder / "acmix_bench", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("variants", "experiments", "recipes"):
        shutil.copytree(library.SHIPPED / name, folder / name)
    source = folder / "acmix_bench" / file
    text = source.read_text()
    assert text.count(old) == 1
    source.write_text(text.replace(old, new))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def regress(base: Path, experiment: Path, results: Path) -> tuple[int, dict, str]:
    command = ["regress", "--base", base, "--experiment", experiment, "--results", results, "--budget", "1"]
    ended = CliRunner().invoke(app, [str(word) for word in command])
    report = results / "regress" / "report.json"
    return ended.exit_code, json.loads(report.read_text()) if report.exists() else {}, ended.stderr


def test_a_version_beside_itself_is_no_regression(experiment: Path, tmp_path: Path) -> None:
    code, report, errors = regress(Path(sys.executable), experiment, tmp_path / "results")
    exact = [finding for finding in report["findings"] if finding["ratio"] is None]
    (timing,) = [finding for finding in report["findings"] if finding["ratio"]]
    assert code == report["exit_code"] == 0
    assert {finding["verdict"] for finding in exact} == {"same"}
    assert timing["verdict"] in ("same", "can't tell", "improvement")  # two pairs know little
    assert timing["ratio"]["samples"] == 2
    assert "pairs of processes" in errors
    assert report["unlike"] == []


def test_a_parameter_more_than_in_the_other_version_fails(experiment: Path, tmp_path: Path) -> None:
    base = other_version(tmp_path / "old", "ops/acmix.py", "3 * channels, 1)", "3 * channels, 1, bias=False)")
    code, report, errors = regress(base, experiment, tmp_path / "results")
    worse = {finding["metric"]: finding for finding in report["findings"] if finding["verdict"] == "regression"}
    assert code == 3
    assert worse["parameters"]["head"] - worse["parameters"]["base"] == 3 * 16
    assert "regression: operator-16-acmix@24: parameters" in errors


def test_an_operator_beside_the_experiment_is_found(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ablate` finds it: both versions run in the folder in which the command was given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as the command line does
    shutil.copy(Path(__file__).parent / "operators_of_mine.py", tmp_path / "mixers.py")
    content = yaml.safe_load(experiment.read_text()) | {
        "models": [],
        "variants": ["mine.yaml"],
        "backbone": "operator-16",
    }
    experiment.write_text(yaml.safe_dump(content))
    Path("mine.yaml").write_text("summary: mine\nclaim: none\noperator: mixers:Counted\n")
    code, report, errors = regress(Path(sys.executable), Path(experiment.name), tmp_path / "results")
    assert code == 0, errors
    assert {finding["label"] for finding in report["findings"]} == {"baseline", "operator=mixers:Counted"}


def test_what_cannot_be_served_is_one_line(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = other_version(
        tmp_path / "old", "cli/__init__.py", 'app.command("serve", hidden=True)(versions.serve)\n', ""
    )
    for base, message in ((tmp_path / "none", "cannot be run"), (broken, "base: ")):
        arguments = ["regress", "--base", base, "-e", experiment, "--results", tmp_path / "results"]
        monkeypatch.setattr(sys, "argv", ["acmix-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        errors = capsys.readouterr().err.strip().splitlines()
        assert ended.value.code == 2
        assert len(errors) == 1
        assert message in errors[0]
