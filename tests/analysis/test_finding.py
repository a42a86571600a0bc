"""Verdicts: the four words of a timing, and scores paired by seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acmix_bench import ablate
from acmix_bench.analysis.finding import verdict
from acmix_bench.cli import app
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.stats import Estimate


@pytest.mark.parametrize(
    ("low", "high", "noise_floor", "said"),
    [
        (1.03, 1.06, 0.01, "regression"),
        (1.03, 1.06, 0.04, "can't tell"),
        (1.01, 1.06, 0.01, "can't tell"),
        (0.94, 0.97, 0.01, "improvement"),
        (0.94, 0.97, 0.05, "can't tell"),
        (0.99, 1.01, 0.01, "same"),
        (0.97, 1.01, 0.01, "can't tell"),
        (None, None, 0.0, "can't tell"),
    ],
)
def test_four_words_for_four_things(low: float | None, high: float | None, noise_floor: float, said: str) -> None:
    ratio = Estimate(value=1.0, low=low, high=high, samples=10)
    assert verdict(ratio, threshold=0.02, noise_floor=noise_floor) == said


def call(*arguments: object) -> tuple[int, dict, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout else {}, result.stderr


def scored(folder: Path, accuracies: dict[int, float], *settings: str, failed: int = 0) -> Path:
    """A run of the smoke experiment's variants whose rows have these accuracies, by seed."""
    experiment = library.load_experiment("smoke")
    experiment = library.with_settings(experiment, [f"seeds={len(accuracies)}", "meters=accuracy", *settings])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))

    def measure(cells, timeout):
        values = {"accuracy": accuracies[cells[0].repeat], "test_images": 1000, "mixing_weights": []}
        if cells[0].repeat < failed:
            return [Outcome(status="diverged", reason="nan") for _ in cells]
        return [Outcome(status="ok", values=values) for _ in cells]

    ablate.ablate(plan, Store(folder), measure=measure, misfits=lambda cells, timeout: {})
    return folder


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        ([0.0] * 5, "same", 0),
        ([-0.05, -0.06, -0.05, -0.04, -0.05], "regression", 3),
        ([0.05, 0.06, 0.05, 0.04, 0.05], "improvement", 0),
        ([-0.05, 0.04, 0.0, 0.01, -0.02], "can't tell", 0),
        ([-0.001, 0.0, 0.0, 0.0, 0.0], "can't tell", 0),
    ],
)
def test_a_score_is_compared_by_seed(tmp_path: Path, change: list[float], said: str, code: int) -> None:
    """Seeds that lie 20 points apart do not hide a change of 5 that all of them show."""
    base = {seed: 0.5 + 0.2 * (seed % 2) for seed in range(5)}
    head = {seed: base[seed] + change[seed] for seed in range(5)}
    exit_code, told, errors = call(scored(tmp_path / "base", base), scored(tmp_path / "head", head))
    assert exit_code == code
    assert {finding["verdict"] for finding in told["findings"]} == {said}
    assert {finding["metric"] for finding in told["findings"]} == {"accuracy"}
    assert ("regression: baseline: accuracy" in errors) == (code == 3)
    for finding in told["findings"]:
        assert finding["difference"]["value"] == pytest.approx(sum(change) / 5, abs=1e-12)
    shown = CliRunner().invoke(app, ["compare", str(tmp_path / "base"), str(tmp_path / "head")]).stdout
    assert ("+5.0" in shown) == (said == "improvement")


def test_one_seed_and_another_recipe_tell_nothing(tmp_path: Path) -> None:
    _, told, _ = call(scored(tmp_path / "base", {0: 0.5}), scored(tmp_path / "head", {0: 0.9}))
    assert {finding["verdict"] for finding in told["findings"]} == {"can't tell"}
    many = dict.fromkeys(range(5), 0.5)
    code, told, _ = call(scored(tmp_path / "many", many), scored(tmp_path / "longer", many, "epochs=3"))
    assert code == 5
    assert any("unlike recipes" in line for line in told["not_compared"])


def test_trainings_that_fail_in_head_alone_are_a_regression(tmp_path: Path) -> None:
    many = dict.fromkeys(range(5), 0.5)
    base = scored(tmp_path / "base", many)
    code, told, _ = call(base, scored(tmp_path / "head", many, failed=3))
    assert code == 3
    assert {(finding["verdict"], finding["note"]) for finding in told["findings"]} == {("regression", "diverged: nan")}
    code, told, _ = call(base, scored(tmp_path / "few", many, failed=1))
    assert code == 0
    assert any("1 of 5 cells of head" in line for line in told["not_compared"])
