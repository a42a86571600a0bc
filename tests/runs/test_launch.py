"""Launchers of one's own, what a plan makes of several machines, and which cells start where."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from fake_meter import answer, on_a_machine
from package import ROOT, run_in
from typer.testing import CliRunner

from acmix_bench import ablate
from acmix_bench.analysis.compare import compare
from acmix_bench.cli import app
from acmix_bench.errors import UserError
from acmix_bench.report.table import render
from acmix_bench.runs.environment import Environment, this_environment
from acmix_bench.runs.launch.launcher import Group, Launch, Launcher, Started
from acmix_bench.runs.launch.ray import Node, room
from acmix_bench.runs.record import Plan, Record, Run
from acmix_bench.runs.store import Store
from acmix_bench.runs.work import Work
from acmix_bench.spec import library

WORDS = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
HERE = this_environment()
TIMED = ("parity", "inference", "training", "matmul")
LARGE, SMALL = (HERE.model_copy(update={"cores": cores}) for cores in (64, 4))


full = pytest.mark.skipif(not os.environ.get("ACMIX_BENCH_FULL"), reason="nox -s cluster")


def run_with(launcher: str, folder: Path, results: str, meters: list[str]) -> dict[str, dict]:
    (folder / "mine.py").write_text((ROOT / "tests" / "sweep_of_mine.py").read_text())
    (folder / "launchers.py").write_text((ROOT / "tests" / "launchers_of_mine.py").read_text())
    (folder / "slurm.py").write_text((ROOT / "examples" / "slurm.py").read_text())
    protocol = {"threads": 1, "seeds": 1, "processes": 1, "seconds": 0.01}
    content = {"baseline": "conv3x3", "meters": meters, "protocol": protocol}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(WORDS | content))
    code, _, err = run_in(folder, "ablate", "-e", "sweep.yaml", "--launcher", launcher, "--results", results)
    assert code == 0, err
    lines = (folder / results / "sweep" / "records.jsonl").read_text().splitlines()
    found = {record["key"]: record for record in map(json.loads, lines)}
    assert len(found) == len(lines), "nothing is doubled"
    return found


@full
def test_a_launcher_of_ones_own_gives_what_this_machine_gives(tmp_path: Path) -> None:
    own = run_with("launchers.py:SPAWNED", tmp_path, "own", ["params", "mine.py:LOOK"])
    ours = run_with("here", tmp_path, "ours", ["params", "mine.py:LOOK"])
    assert {key: record["values"] for key, record in own.items()} == {key: r["values"] for key, r in ours.items()}


@full
def test_slurm_as_the_example_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="pip install submitit")
    monkeypatch.setenv("CLUSTER", "local")
    found = run_with("slurm.py:SLURM", tmp_path, "results", ["params", "inference", "mine.py:LOOK"])
    assert {record["status"] for record in found.values()} == {"ok"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--launcher", "rya"), "unknown launcher 'rya'; did you mean 'ray'?"),
        (("--launcher", "fake_meter:answer"), "launcher 'fake_meter:answer' is a function, but must be a Launcher of"),
        (("--address", "127.0.0.1:1"), "--address: is where a Ray cluster is; here has none, so add --launcher ray"),
        (("--launcher", "ray", "--jobs", "2"), "--jobs: is for processes of this machine; --launcher ray takes what"),
    ],
)
def test_what_cannot_be_launched_is_one_line(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["ablate", "-e", "smoke", "--results", str(tmp_path), *arguments])
    assert isinstance(ended.exception, UserError)
    assert str(ended.exception).startswith(told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_line_says_how_to_install_it() -> None:
    ended = CliRunner().invoke(app, ["ablate", "-e", "smoke", "--launcher", "ray"])
    assert str(ended.exception) == "--launcher ray: No module named 'ray'; pip install 'acmix-bench[ray]'"


def called(groups: Sequence[Group], work: Work, started: Started) -> Iterator[list[Record]]:
    for group in groups:
        started(group.cells, "a node")
        yield work(group.cells)


def run_on(kinds: list[Environment], store: Store, plan: Plan, launch: Launch = called) -> Run:
    """A run by a launcher that tells these kinds, and calls what it is given here."""
    launcher = Launcher(launch=launch, kinds=lambda: kinds)
    ablate.ablate(plan, store, launcher=launcher, measure=answer, misfits=lambda cells, timeout: {})
    return store.load()


def test_timings_of_another_kind_of_machine_are_refused(tmp_path: Path) -> None:
    """The launcher has told one, and then measured on another."""
    run = run_on([LARGE], Store(tmp_path), plan_on(HERE))
    assert run.plan.environment == LARGE
    assert len(run.records) == len(run.plan.cells)
    for record in run.records:
        refused = record.cell.meter in TIMED
        assert (record.status, bool(record.values)) == (("crashed", False) if refused else ("ok", True))
        assert not refused or record.reason.startswith(f"measured where cores is {HERE.cores} and not {LARGE.cores}:")
    tables = render(compare(run), "text")
    assert f"Counts and scores are also from elsewhere; on {HERE}." in " ".join(tables.split())


def test_a_cell_of_other_code_is_refused_where_it_would_run(tmp_path: Path) -> None:
    plan = plan_on(HERE)
    other = plan.model_copy(update={"code": plan.code | {"baseline params": "0" * 16}})
    run = run_on([HERE], Store(tmp_path), other)
    refused = [record for record in run.records if record.status != "ok"]
    assert [(record.cell.row.label, record.cell.meter) for record in refused] == [("baseline", "params")]
    assert refused[0].reason.startswith("baseline: params would run other code here than where the command was given")


def test_a_launcher_that_tells_no_machines_is_not_believed(tmp_path: Path) -> None:
    """It says that it measures here, and measures elsewhere."""
    launcher = Launcher(launch=called)
    with on_a_machine(LARGE):
        ablate.ablate(plan_on(HERE), Store(tmp_path), launcher=launcher, measure=answer, misfits=lambda *_: {})
    run = Store(tmp_path).load()
    assert {record.cell.meter for record in run.records if record.status != "ok"} == {*TIMED} - {"matmul"}
    assert {record.environment for record in run.records} == {LARGE}


def test_what_comes_twice_is_kept_once_and_what_never_comes_is_told(tmp_path: Path) -> None:
    def twice(groups, work, started):
        yield from (2 * work(group.cells) for group in groups)

    def one(groups, work, started):
        yield work(groups[0].cells)

    plan = plan_on(HERE)
    run_on([HERE], Store(tmp_path / "twice"), plan, twice)
    assert len((tmp_path / "twice/records.jsonl").read_text().splitlines()) == len(plan.cells)
    with pytest.raises(UserError, match=f"ended without a record of {len(plan.cells) - 1} cells"):
        run_on([HERE], Store(tmp_path / "one"), plan, one)
    run_on([HERE], Store(tmp_path / "one"), plan)
    assert len((tmp_path / "one/records.jsonl").read_text().splitlines()) == len(plan.cells)


def plan_on(environment: Environment) -> Plan:
    experiment = library.with_settings(library.load_experiment("smoke"), ["threads=1", "processes=2", "seeds=2"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    return plan.model_copy(update={"environment": environment})


def launched(store: Store, kinds: list[Environment]) -> tuple[Plan, set[str]]:
    """What a run on these machines would be, and which of its cells it would keep."""
    plan = ablate.where(plan_on(HERE), store, Launcher(launch=None, kinds=lambda: kinds))
    return plan, set(ablate.finished(plan, store))


def test_timings_stand_in_one_environment_and_scores_in_all(tmp_path: Path) -> None:
    store, cells = Store(tmp_path), plan_on(HERE).cells
    with on_a_machine(LARGE):
        ablate.ablate(plan_on(LARGE), store, measure=answer, misfits=lambda cells, timeout: {})
    timed = {cell.key for cell in cells if cell.meter in TIMED}
    every = {cell.key for cell in cells}
    plan, kept = launched(store, [SMALL, LARGE])
    assert (plan.environment, kept) == (LARGE, every)
    plan, kept = launched(store, [SMALL])
    assert (plan.environment, kept) == (LARGE, every), "all is timed, so no machine of that kind is needed"
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    (tmp_path / "records.jsonl").write_text("".join(f"{line}\n" for line in lines if '"repeat":1' not in line))
    rest = {cell.key for cell in cells if cell.repeat == 0}
    plan, kept = launched(store, [SMALL, LARGE])
    assert (plan.environment, kept) == (LARGE, rest)
    plan, kept = launched(store, [SMALL])
    assert (plan.environment, kept) == (SMALL, rest - timed), "no machine of that kind is there: all is timed anew"
    assert LARGE in plan.pooled


def test_scores_of_other_software_do_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = HERE.model_copy(update={"torch": "1.13.0"})
    with on_a_machine(old):
        ablate.ablate(plan_on(old), store, measure=answer, misfits=lambda cells, timeout: {})
    assert launched(store, [HERE]) == (plan_on(HERE), set())


def node(name: str, machine: str = "", environment: Environment = LARGE, cpus: int = 4, gpus: int = 0) -> Node:
    return Node(id=name, name=name, machine=machine or name, environment=environment, cpus=cpus, gpus=gpus)


def group(meter: str, cpus: int = 1, gpus: int = 0) -> Group:
    cell = next(cell for cell in plan_on(HERE).cells if cell.meter == meter)
    alone = meter == "inference"
    return Group(cells=(cell,), alone=alone, like=LARGE if alone else None, cpus=cpus, gpus=gpus)


def test_what_is_timed_has_a_machine_to_itself() -> None:
    """Two nodes may be one machine, as containers are."""
    timing, score, count = group("inference"), group("accuracy", 2), group("params")
    one, same, small = node("one", "machine"), node("same", "machine"), node("small", environment=SMALL)
    assert room([one, same], [timing, timing, score, count], []) == [(timing, one)]
    assert room([one, same], [timing, score, count], [(count, same)]) == [(count, one)], "it waits, and no score starts"
    assert room([small], [timing], []) == [], "a machine of another kind"
    assert room([one, small], [timing, score], []) == [(timing, one), (score, small)]
    assert room([one, node("two"), node("three")], [timing, score], [])[1][1].name != "one", "the others are not kept"


def test_no_node_takes_more_than_it_has() -> None:
    score, fitted = group("accuracy", 2), group("accuracy", 1, 1)
    assert [where.name for _, where in room([node("a"), node("b", cpus=2)], [score] * 4, [])] == ["a", "a", "b"]
    assert room([node("a"), node("b", gpus=1)], [fitted, fitted], []) == [(fitted, node("b", gpus=1))]
