"""Two runs against each other: verdicts, exit codes, coverage by simulation, and the refusal of unlike environments."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from fake_meter import answer, on_a_machine
from typer.testing import CliRunner

from acmix_bench import ablate
from acmix_bench.analysis.finding import paired, verdict
from acmix_bench.analysis.thresholds import load_thresholds
from acmix_bench.cli import app
from acmix_bench.errors import WAITED_IN_VAIN, UserError
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Plan
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell


@pytest.fixture
def plan() -> Plan:
    experiment = library.load_experiment("smoke")
    experiment = library.with_settings(experiment, ["processes=10", "seeds=1", "meters=params,macs,inference"])
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def run(
    plan: Plan,
    folder: Path,
    slower: float = 1.0,
    parameters: int = 0,
    noise: float = 0.001,
    crash: str = "",
    reason: str = "boom",
    meters: str = "inference",
) -> Path:
    """A run whose timings are `slower` times those of the fake meter, with some noise, for every row."""
    draw = random.Random(str(folder))

    def measure(cells, timeout):
        outcomes = []
        for cell, outcome in zip(cells, answer(cells), strict=True):
            values = dict(outcome.values)
            if "seconds" in values:
                values["seconds"] = [
                    slower * second * draw.lognormvariate(0, noise) for _ in range(4) for second in [0.1]
                ]
            if "parameters" in values and cell.meter == "params":
                values["parameters"] += parameters
            failed = crash == cell.row.label and cell.meter in meters
            outcomes.append(Outcome(status="crashed", reason=reason) if failed else Outcome(status="ok", values=values))
        return outcomes

    with on_a_machine(plan.environment):
        ablate.ablate(plan, Store(folder), measure=measure, misfits=lambda cells, timeout: {})
    return folder


def call(*arguments: object) -> tuple[int, dict, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout else {}, result.stderr


@pytest.mark.parametrize(
    ("slower", "said", "code"), [(1.05, "regression", 3), (1.0, "same", 0), (0.9, "improvement", 0)]
)
def test_a_change_of_speed_is_named(plan: Plan, tmp_path: Path, slower: float, said: str, code: int) -> None:
    exit_code, told, errors = call(run(plan, tmp_path / "base"), run(plan, tmp_path / "head", slower))
    timings = [finding for finding in told["findings"] if finding["metric"] == "inference"]
    assert exit_code == code == told["exit_code"]
    assert {finding["verdict"] for finding in timings} == {said}
    assert len(timings) == len(plan.rows)
    for finding in timings:
        assert finding["ratio"]["value"] == pytest.approx(slower, rel=0.01)
    assert ("regression: baseline: inference" in errors) == (code == 3)


def test_one_parameter_more_fails_on_any_machine(plan: Plan, tmp_path: Path) -> None:
    base = run(plan, tmp_path / "base")
    elsewhere = plan.model_copy(update={"environment": plan.environment.model_copy(update={"cpu": "another"})})
    code, told, errors = call(base, run(elsewhere, tmp_path / "head", parameters=1))
    assert code == 3
    assert "regression: baseline: parameters" in errors
    worse = [finding for finding in told["findings"] if finding["verdict"] == "regression"]
    assert {(finding["metric"], finding["head"] - finding["base"]) for finding in worse} == {("parameters", 1)}
    code, told, _ = call(base, run(plan, tmp_path / "fewer", parameters=-1))
    assert code == 0
    assert "improvement" in {finding["verdict"] for finding in told["findings"]}


def test_unlike_environments_are_refused_by_name(plan: Plan, tmp_path: Path) -> None:
    base = run(plan, tmp_path / "base")
    elsewhere = plan.model_copy(update={"environment": plan.environment.model_copy(update={"cpu": "another"})})
    head = run(elsewhere, tmp_path / "head", 2.0)
    code, told, errors = call(base, head)
    assert code == 4
    assert not [finding for finding in told["findings"] if finding["ratio"]]
    assert f"cpu ({plan.environment.cpu} and another)" in errors
    code, told, _ = call(base, head, "--allow-unlike")
    assert code == 3
    assert told["unlike"] == [f"cpu ({plan.environment.cpu} and another)"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "NVIDIA A100"}, "gpu (NVIDIA H100 and NVIDIA A100)"),
        ({"driver": "570"}, "gpu driver (580 and 570)"),
        ({"power_limit_w": 350}, "gpu power_limit_w (700 and 350)"),
        ({"power_limit_w": None}, ""),  # one that nobody could read is no difference
    ],
)
def test_timings_of_unlike_gpus_are_refused(plan: Plan, tmp_path: Path, change: dict, told: str) -> None:
    sides, known = [], {"name": "NVIDIA H100", "driver": "580", "power_limit_w": 700}
    for side, gpu in (("base", known), ("head", known | change)):
        there = plan.environment.on(gpu)
        sides.append(run(plan.model_copy(update={"environment": there}), tmp_path / side))
    code, _, errors = call(*sides)
    assert code == (4 if told else 0)
    assert told in errors


def test_unlike_machines_that_timed_nothing_are_compared(plan: Plan, tmp_path: Path) -> None:
    """What is exact is so on any machine."""
    exact = ablate.plan_of(library.with_settings(plan.experiment, ["meters=params,macs"]), plan.rows)
    elsewhere = exact.model_copy(update={"environment": plan.environment.model_copy(update={"cpu": "another"})})
    base = run(exact, tmp_path / "base")
    assert call(base, run(elsewhere, tmp_path / "head"))[0] == 0
    assert call(base, run(elsewhere, tmp_path / "more", parameters=1))[0] == 3


def test_a_version_that_names_its_cells_otherwise_can_be_compared(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that has an axis more, or less."""
    with monkeypatch.context() as other:
        ours = Cell.key.fget
        other.setattr(Cell, "key", property(lambda cell: f"other-{ours(cell)}"))
        base = run(plan, tmp_path / "base")
    code, told, _ = call(base, run(plan, tmp_path / "head"))
    assert code == 0
    assert len([finding for finding in told["findings"] if finding["metric"] == "inference"]) == len(plan.rows)


def test_nothing_in_common_is_never_green(plan: Plan, tmp_path: Path) -> None:
    some, others = (plan.model_copy(update={"rows": rows}) for rows in (plan.rows[:1], plan.rows[1:]))
    code, told, errors = call(run(some, tmp_path / "base"), run(others, tmp_path / "head"))
    assert (code, told["findings"]) == (5, [])
    assert "nothing was measured that both runs have" in errors
    assert len(told["not_compared"]) == len(plan.rows)


def test_a_score_that_head_lacks_is_shown_as_any_other(tmp_path: Path) -> None:
    experiment = library.with_settings(library.load_experiment("smoke"), ["seeds=1", "meters=accuracy"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    base, head = run(plan, tmp_path / "base"), run(plan, tmp_path / "head", crash="baseline", meters="accuracy")
    (line,) = (one for one in _compared(base, head).splitlines() if one.startswith("baseline"))
    (other,) = (one for one in _compared(base, base).splitlines() if one.startswith("baseline"))
    assert line.split()[2:4] == [other.split()[2], "failed"]
    assert float(other.split()[2]) > 1, "in percent"


def _compared(base: Path, head: Path) -> str:
    return CliRunner().invoke(app, ["compare", str(base), str(head)]).stdout


def test_a_row_that_crashes_in_head_is_a_regression(plan: Plan, tmp_path: Path) -> None:
    code, _, errors = call(run(plan, tmp_path / "base"), run(plan, tmp_path / "head", crash="shift=tensor"))
    assert code == 3
    assert "regression: shift=tensor: inference crashed: boom" in errors


def test_a_head_that_leaves_base_waiting_is_a_regression(plan: Plan, tmp_path: Path) -> None:
    """Base has no samples then either, but it is not to blame. Where base itself fails, nothing is worse."""
    waiting = run(plan, tmp_path / "waiting", crash="shift=tensor", reason=f"TimeoutError: {WAITED_IN_VAIN}")
    broken = run(plan, tmp_path / "broken", crash="shift=tensor")
    code, _, errors = call(waiting, broken)
    assert code == 3
    assert "regression: shift=tensor: inference crashed: boom" in errors
    cut_short = altered(waiting, tmp_path / "cut", "inference", seconds=[], stopped="other")  # its turn never came
    assert call(cut_short, broken)[0] == 3
    for base, head in ((broken, waiting), (broken, broken)):  # mended, and as bad as before
        code, told, _ = call(base, head)
        assert code == 0
        assert "shift=tensor: inference: 10 of 10 cells of base have no number (boom)" in told["not_compared"]


def altered(run: Path, folder: Path, meter: str, **values: object) -> Path:
    """A copy of a run in which one meter of every row says something else; None takes the value away."""
    folder.mkdir()
    (folder / "run.json").write_text((run / "run.json").read_text())
    lines = []
    for line in (run / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["cell"]["meter"] == meter:
            record["values"] = {key: value for key, value in (record["values"] | values).items() if value is not None}
        lines.append(json.dumps(record))
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_row_that_is_no_longer_its_function_is_a_regression_however_fast(plan: Plan, tmp_path: Path) -> None:
    base = run(plan, tmp_path / "base")
    wrong = altered(run(plan, tmp_path / "fast", 0.5), tmp_path / "wrong", "parity", claims="baseline", difference=0.5)
    code, told, errors = call(base, wrong)
    assert code == 3
    assert "regression: shift=tensor: parity it is not the same function" in errors
    assert "improvement" not in {finding["verdict"] for finding in told["findings"]}
    code, told, _ = call(wrong, wrong)
    assert code == 0
    assert not [finding for finding in told["findings"] if finding["ratio"]]
    assert any("timings of head are withheld" in line for line in told["not_compared"])


def test_one_failure_in_base_does_not_hide_a_head_that_always_fails(plan: Plan, tmp_path: Path) -> None:
    base = run(plan, tmp_path / "base")
    path = base / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    timed = [r for r in records if r["cell"]["meter"] == "inference" and r["cell"]["row"]["label"] == "shift=tensor"]
    timed[0] |= {"status": "timeout", "reason": "no answer", "values": {}}
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    assert call(base, run(plan, tmp_path / "head", crash="shift=tensor"))[0] == 3


def test_a_meter_that_head_did_not_run_is_said_and_no_regression(plan: Plan, tmp_path: Path) -> None:
    fewer = ablate.plan_of(library.with_settings(plan.experiment, ["meters=params,inference"]), plan.rows)
    code, told, _ = call(run(plan, tmp_path / "base"), run(fewer, tmp_path / "head"))
    assert code == 0
    assert "baseline: macs: head was not measured" in told["not_compared"]


def test_a_count_that_head_has_lost_is_a_regression(plan: Plan, tmp_path: Path) -> None:
    base = altered(run(plan, tmp_path / "raw"), tmp_path / "base", "macs", ledger=50)
    code, _, errors = call(base, altered(base, tmp_path / "head", "macs", ledger=None))
    assert code == 3
    assert "regression: baseline: ledger is not counted any more" in errors
    assert call(tmp_path / "head", base)[0] == 0


def test_peak_bytes_of_another_batch_are_another_metric(plan: Plan, tmp_path: Path) -> None:
    base = run(plan, tmp_path / "base")
    more = altered(base, tmp_path / "more", "inference", peak_bytes=2**21)
    assert call(base, more)[0] == 3
    batch = library.with_settings(plan.experiment, ["batch=16"])
    other = run(ablate.plan_of(batch, plan.rows), tmp_path / "other")
    other = altered(other, tmp_path / "altered", "inference", peak_bytes=2**21, batch=16)
    assert call(base, other)[0] == 4


def test_rows_of_one_name_on_two_backbones_are_not_compared(plan: Plan, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"case": row.case.model_copy(update={"image_size": 16})}) for row in plan.rows]
    base, head = run(plan, tmp_path / "base"), run(ablate.plan_of(plan.experiment, rows), tmp_path / "head")
    code, told, _ = call(base, head)
    assert code == 5
    assert "baseline on nano@14 is only in base" in told["not_compared"]


def test_an_exact_metric_that_crashes_in_head_is_a_regression(plan: Plan, tmp_path: Path) -> None:
    code, _, errors = call(
        run(plan, tmp_path / "base"), run(plan, tmp_path / "head", crash="baseline", meters="params")
    )
    assert code == 3
    assert "regression: baseline: params crashed: boom" in errors


def test_a_row_may_have_a_threshold_of_its_own(plan: Plan, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("default: {inference: 0.02, training: 0.02}\nrows: {baseline: {inference: 0.2}}\n")
    base, head = run(plan, tmp_path / "base"), run(plan, tmp_path / "head", 1.1)
    _, told, _ = call(base, head, "--thresholds", mine)
    verdicts = {
        finding["label"]: finding["verdict"] for finding in told["findings"] if finding["metric"] == "inference"
    }
    assert verdicts == {"baseline": "same", "operator=conv": "regression", "shift=tensor": "regression"}
    mine.write_text("default: {inferense: 0.02, training: 0.02}\n")
    with pytest.raises(UserError, match="unknown meter 'inferense'; did you mean 'inference'"):
        load_thresholds(mine)
    for text, message in (
        ("defualt: {}", "unknown key 'defualt'; did you mean 'default'"),
        ("default: {params: 0.02}", "unknown timing 'params'"),
        ("default: {inference: -0.02}", "should be greater than or equal to 0"),
        ("default: {inference: true}", "should be a valid number"),
        ("default: {inference: .nan}", "finite number"),
        ("rows: {baseline: {training: -1}}", "greater than or equal to 0"),
        ("rows: {baselin: {training: 1}}", "rows: unknown row 'baselin'; did you mean 'baseline'"),
    ):
        mine.write_text(text)
        with pytest.raises(UserError, match=message) as error:
            load_thresholds(mine, ["baseline"])
        assert str(error.value).startswith(str(mine))
    mine.write_text("rows: {baseline: {training: 1}}")
    limits = load_thresholds(mine, ["baseline"])
    assert [limits.of("baseline", meter) for meter in ("training", "inference")] == [1, 0.02]


def test_intervals_of_paired_ratios_cover_what_they_claim() -> None:
    """Pairs of processes, each with a mood of its own and heavy-tailed blocks, shared by both sides: 95 % within 2."""
    draw, covered, told, trials = random.Random(0), 0, 0, 2000
    for _ in range(trials):
        pairs = []
        for _ in range(10):
            layout = draw.lognormvariate(0, 0.01)
            slow_from = draw.randrange(24)
            moods = [1.0 if block < slow_from else 2.0 for block in range(12)]
            base = [mood * draw.lognormvariate(0, 0.03) for mood in moods]
            head = [1.05 * layout * mood * draw.lognormvariate(0, 0.03) for mood in moods]
            pairs.append((base, head))
        ratio, noise_floor = paired(pairs, confidence=0.95)
        covered += ratio.low <= 1.05 <= ratio.high
        told += verdict(ratio, threshold=0.02, noise_floor=noise_floor) == "regression"
    assert abs(covered / trials - 0.95) < 0.02
    assert told / trials > 0.5
