"""What a script calls: data frames of a run, and runs that it starts itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from package import run_in

import acmix_bench
from acmix_bench.runs import bar, progress

ROOT = Path(__file__).parent.parent
PATHS = ROOT / "results/shown/paths"


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script that has no guard against being imported by the processes that it starts."""
    (folder / "script.py").write_text(code)
    command = [sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ.copy())


def test_importing_it_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, acmix_bench; print(*{'torch', 'pandas', 'pydantic', 'rich', 'yaml'} & set(sys.modules))"
    assert python(code, tmp_path).stdout == "\n"
    assert set(acmix_bench.__all__) <= set(dir(acmix_bench))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = acmix_bench.lod


def test_a_row_of_the_frame_is_a_row_of_the_tables() -> None:
    results = acmix_bench.load(PATHS)
    frame = results.frame()
    assert list(frame.variant) == [line.row.label for line in results.comparison.lines]
    for row, line in zip(frame.itertuples(), results.comparison.lines, strict=True):
        assert row.parameters == line.count("params", "parameters")
        assert row.inference_images_per_s_low == line.timings["inference"].rate.low
        assert row.accuracy == line.scores["accuracy"].mean.value
        assert row.status == "ok"
    assert frame.dtypes["macs"] == "Int64"
    assert frame.dtypes["accuracy_difference"] == "Float64"
    assert frame.accuracy_difference.isna().tolist() == [True, *[False] * 5]
    assert "paths: " in results.render()


def test_a_sample_is_a_raw_one() -> None:
    results = acmix_bench.load("paths", ROOT / "results/shown")
    samples = results.samples()
    raw = [json.loads(line) for line in (PATHS / "records.jsonl").read_text().splitlines()]
    wanted = [r for r in raw if r["cell"]["meter"] == "training" and r["cell"]["row"]["label"] == "mix=fixed"]
    ours = samples[(samples.meter == "training") & (samples.variant == "mix=fixed")]
    assert sorted(ours.seconds) == sorted(second for record in wanted for second in record["values"]["seconds"])
    one = ours[ours.process == 0].sort_values("block")
    assert list(one.block) == list(range(len(one)))
    rates = [one.batch.iloc[0] / median(one.seconds) for _, one in ours.groupby("process")]
    line = next(line for line in results.comparison.lines if line.row.label == "mix=fixed")
    assert median(rates) == pytest.approx(line.timings["training"].rate.value)
    assert set(samples.variant[samples.control]) == {"baseline"}


def test_formats_hold_the_same_numbers(tmp_path: Path) -> None:
    import pandas as pd

    folder = ["--results", str(ROOT / "results/shown")]
    for style in ("csv", "json", "parquet"):
        code, out, err = run_in(tmp_path, "table", "paths", "--format", style, "-o", f"my run.{style}", *folder)
        assert (code, out, err) == (0, f"my run.{style}\n", "")
    frame = acmix_bench.load(PATHS).frame()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "my run.parquet").drop(columns="rendered"), frame)
    for read in (pd.read_csv(tmp_path / "my run.csv"), pd.read_json(tmp_path / "my run.json", precise_float=True)):
        assert list(read.columns) == [*frame.columns, "rendered"]
        assert read.training_ratio[1] == frame.training_ratio[1]
        assert read.macs.tolist() == frame.macs.tolist()
    assert run_in(tmp_path, "table", "paths", "--format", "parquet", *folder)[0] == 2
    code, _, err = run_in(tmp_path, "table", "paths", "--format", "csv", "-o", "no/such/folder.csv", *folder)
    assert code == 2
    assert err.startswith("error: no/such/folder.csv: cannot be written")


def test_a_script_measures(tmp_path: Path) -> None:
    script = """
import acmix_bench
print("begins")
results = acmix_bench.run(
    "smoke", variants=["shift=tensor"], meters=["params", "inference"], processes=2, seconds=0.02, batch=4
)
print(results.frame()[["variant", "parameters", "inference_images_per_s"]].shape)
print(len(acmix_bench.load("smoke").samples()) > 4)
print(acmix_bench.flops("nano", "operator-8@9").macs.tolist())
try:
    acmix_bench.run("smoke", variants=["shift=tensr"])
except acmix_bench.UserError as error:
    print(error)
"""
    done = python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    begins, shape, sampled, macs, error = done.stdout.splitlines()
    assert begins == "begins", "once: no process that it starts runs the script again"
    assert shape.endswith(", 3)")
    assert sampled == "True"
    assert json.loads(macs)[1] == 9 * 9 * 9 * 8 * 8
    assert "unknown value 'tensr'; did you mean 'tensor'?" in error
    assert (tmp_path / "results/smoke/table.csv").exists()


def test_models_and_variants_at_once_are_refused() -> None:
    with pytest.raises(acmix_bench.UserError, match="models or variants, not both"):
        acmix_bench.throughput("nano", variants=["acmix"])
    with pytest.raises(acmix_bench.UserError, match="a setting is a number"):
        acmix_bench.flops("nano", epochs=None)


def test_the_example_draws_what_the_papers_say(tmp_path: Path) -> None:
    import pandas as pd

    figure = tmp_path / "a figure.png"
    command = [sys.executable, str(ROOT / "examples/speed_and_top1.py"), str(figure)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert figure.stat().st_size > 10_000
    published = pd.read_csv(ROOT / "results/published/imagenet.csv").query("kind == 'published'")
    known = published.set_index(published.model.str.lower().str.replace("resnet-", "resnet"))
    for row in pd.read_csv(ROOT / "examples/top1.csv").itertuples():
        assert known.loc[row.model, ["top1", "params_m"]].tolist() == [row.top1, row.param_count]


def test_a_notebook_that_ends_with_results_shows_their_tables() -> None:
    results = acmix_bench.load(PATHS)
    assert repr(results) == str(results) == results.render("text")


def test_progress_in_a_notebook_is_lines_where_no_bar_can_be_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(bar, "find_spec", lambda name: None)
    with progress.Progress([], {}) as told:  # rich warns where it draws without ipywidgets: an error here
        told.say("one")
    assert capsys.readouterr() == ("", "one\n")
