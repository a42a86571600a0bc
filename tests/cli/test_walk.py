"""Every command, driven once with every registered name that it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from full import FULL
from package import ROOT, run_in
from typer.testing import CliRunner

from acmix_bench import backbones, data, registered
from acmix_bench.cli import COMMANDS, app
from acmix_bench.meters import find
from acmix_bench.spec import library
from acmix_bench.spec.variant import AXES, Variant

SHOWN = ROOT / "results/shown"
RUNS = sorted(path.parent.name for path in SHOWN.glob("*/run.json"))
VARIANTS = sorted(library.known("variant"))
TRAIN = [name for name in VARIANTS if library.load_variant(name).runs.is_measured_by(find("accuracy"))]
QUICK = [
    "--set",
    "threads=1",
    "--set",
    "processes=1",
    "--set",
    "seconds=0.005",
    "--set",
    "batch=2",
    "--set",
    "image_size=14",
]


def invoke(*arguments: str) -> str:
    answer = CliRunner().invoke(app, list(arguments))
    assert answer.exit_code == 0, (arguments, answer.exception)
    return answer.stdout


def test_the_walk_leaves_no_command_out() -> None:
    """Of those that take a registered name; check, list, show and the meters are walked in test_registry."""
    walked = {"ablate", "flops", "throughput", "train", "table", "plot", "plan", "compare", "merge", "status"}
    walked |= {"import-weights", "claims"}
    elsewhere = {"list", "show", "check", "regress", "predict", "evaluate", "report", "doctor"}
    assert {name for commands in COMMANDS.values() for name in commands} == walked | elsewhere


@pytest.mark.parametrize("name", sorted(library.known("experiment")))
def test_ablate_plans_every_experiment(name: str, tmp_path: Path) -> None:
    assert "0 done" in invoke("ablate", "-e", name, "--dry-run", "--results", str(tmp_path))


def test_ablate_plans_every_variant_and_every_value_of_an_axis(tmp_path: Path) -> None:
    known = {axis: getattr(Variant.model_fields[axis].annotation, "__args__", ()) for axis in AXES}
    values = [f"{axis}={value}" for axis, values in known.items() for value in values if isinstance(value, str)]
    assert len(values) > 10
    for name in [*VARIANTS, *values]:
        answer = CliRunner().invoke(app, ["ablate", "-v", name, "--dry-run", "--results", str(tmp_path)])
        # The baseline's own value makes no other row, and is refused by name.
        assert answer.exit_code == 0 or "one and the same measurement" in str(answer.exception), name


def test_flops_counts_every_variant_on_every_data_set(tmp_path: Path) -> None:
    out = invoke("flops", *(f"-v{v}" for v in VARIANTS[1:]))
    assert len(out.partition("---\n")[2].partition("\n\n")[0].splitlines()) == len(VARIANTS)
    for number in range(2):
        (tmp_path / f"class {number}").mkdir()
    for name in (*data.DATASETS, f"folder:{tmp_path}"):
        assert invoke("flops", "-vconv3x3", "--set", f"data={name}", "--set", "meters=params")


def test_throughput_times_every_variant(tmp_path: Path) -> None:
    code, out, err = run_in(tmp_path, "throughput", *(f"-v{name}" for name in TRAIN), *QUICK)
    assert code == 0, err
    assert all(label in out for label in ("baseline", "operator=conv"))


def test_throughput_times_every_backbone(tmp_path: Path) -> None:
    """At small sizes where they have one; the largest of a family are timed in nox -s full."""
    sizes = {"san": "@128", "resnet": "@64", "pvt": "@64"}
    large = () if FULL else ("pvt-m", "pvt-l", "swin-s", "san15", "san19")
    asked = [
        name.replace("operator-C", "operator-8")
        + next((s for family, s in sizes.items() if name.startswith(family)), "")
        for name in backbones.BACKBONES
        if not name.startswith(large)
    ]
    assert "san10@128" in asked
    settings = [*QUICK[:-4], "--set", "batch=1", "--set", "meters=inference"]
    code, out, err = run_in(tmp_path, "throughput", *asked, *settings)
    assert code == 0, err
    assert all(f"\n{name} " in out for name in asked)


def test_claims_plans_every_claim(tmp_path: Path) -> None:
    assert "missing, about" in invoke("claims", *registered.claims(), "--dry-run", "--results", str(tmp_path))
    judged = invoke("claims", "--budget", "0", "--format", "json", "--results", str(tmp_path))
    assert {claim["claim"]: claim["verdict"] for claim in json.loads(judged)["claims"]} == dict.fromkeys(
        registered.claims(), "can't tell"
    )
    for name, claim in registered.claims().items():
        assert claim.statement in invoke("show", name)
    for budget in ("1e9", "inf"):
        assert "--budget" in str(CliRunner().invoke(app, ["claims", "--budget", budget]).exception)
    wrong = CliRunner().invoke(app, ["claims", "both-path"])
    assert "unknown claim 'both-path'; did you mean 'both-paths'?" in str(wrong.exception)


# The others take a minute and more; nox -s full trains them all.
@pytest.mark.parametrize("name", TRAIN if FULL else ["conv3x3", "acmix"])
def test_train_trains_every_variant(name: str, tmp_path: Path) -> None:
    assert "top-1" in invoke("train", "-v", name, "--set", "epochs=1", "--set", "threads=1")


@pytest.mark.parametrize("name", RUNS)
def test_every_stored_run_is_looked_at(name: str, tmp_path: Path) -> None:
    shown = ("--results", str(SHOWN))
    for style in ("text", "md", "tex", "csv", "json"):
        assert invoke("table", name, "--format", style, *shown)
    assert invoke("table", name, "--format", "parquet", "-o", str(tmp_path / "a.parquet"), *shown)
    drawn = CliRunner().invoke(app, ["plot", name, "--out", str(tmp_path / "a.png"), *shown])
    assert (drawn.exit_code == 0) == (tmp_path / "a.png").exists() == ("nothing to draw" not in str(drawn.exception))
    assert "finished" in invoke("status", name, *shown)
    assert "same" in invoke("compare", name, name, *shown) or "equal" in invoke("compare", name, name, *shown)
    if "accuracy" in invoke("table", name, "--format", "csv", *shown):
        assert "seeds" in invoke("plan", name, "--detect", "1", *shown)
    merged = invoke("merge", name, name, "--out", str(tmp_path / "merged"), *shown)
    assert invoke("table", str(tmp_path / "merged"), "--format", "csv")
    assert "Records and tables" in merged
