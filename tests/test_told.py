"""Every number of the README and the docs that comes from a run is what the committed records give."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median

import pytest
from full import full
from pages import ROOT, TEXT, claims_shown, flat, shown

import acmix_bench
from acmix_bench.analysis.compare import Timing, by_seed
from acmix_bench.ops.cost import operator_parameters
from acmix_bench.report.rounding import ratio
from acmix_bench.report.stamp import MARK
from acmix_bench.report.table import tables
from acmix_bench.spec import library
from acmix_bench.stats import Estimate


def findings() -> list[str]:
    section = TEXT["README.md"].partition("## What it found\n")[2].partition("\n## ")[0]
    return section.split("\n- ")[1:]


@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.partition("**")[2].partition(".")[0])
def test_every_number_found_is_in_the_run_that_it_links(finding: str) -> None:
    linked = re.findall(r"\]\((results/shown/[\w./-]+)\)", finding)
    assert linked
    told = "".join((ROOT / path).read_text().partition(MARK)[0] for path in linked)
    numbers = re.findall(
        r"[\d.]+ \[[^]]+\]|\d+\.\d+(?: ±[\d.]+)?|\d{3,}|\d+(?= MiB)", re.sub(r"\([^)]*\)", "", finding)
    )
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", told), number


@pytest.mark.parametrize(("run", "told"), [("speed", "10 to 14 times"), ("speed-default", "22 to 34 times")])
def test_the_operator_is_as_fast_as_told(run: str, told: str) -> None:
    lines = [line for line in shown(f"results/shown/{run}").lines if re.search("-acmix@", line.row.label)]
    ratios = [timing.speedup.value for line in lines for name, timing in line.timings.items() if name != "matmul"]
    assert len(ratios) == 6
    assert f"{min(ratios):.0f} to {max(ratios):.0f} times" == told
    assert told in flat("".join(findings()))


def test_the_gate_saw_what_is_told() -> None:
    kept = json.loads((ROOT / "results/shown/detection.json").read_text())["results"]
    rows = []
    for images, work in ((0, "none (A/A)"), (2, "2 %"), (5, "5 %")):
        found = [one for one in kept if one["again"] == images]
        verdicts = Counter(one["verdict"] for one in found)
        called = [verdicts[verdict] for verdict in ("regression", "improvement", "same", "can't tell")]
        seen = sum(one["without_limit"] == "regression" for one in found)
        rows.append([work, *map(str, [len(found), *called, seen])])
    assert "".join("| " + " | ".join(row) + " |\n" for row in rows) in TEXT["docs/measuring.md"]
    told = "5 % more work was called a regression in {2} of {1} comparisons"
    assert flat(told.format(*rows[2])) in flat("".join(findings()))
    assert rows[0][2] == "0"
    assert f"a version beside itself in none of {rows[0][1]}" in flat("".join(findings()))


def timing(run: str, label: str) -> Timing:
    (line,) = [line for line in shown(f"results/shown/{run}").lines if line.row.label == label]
    return line.timings["inference"]


def speedup(run: str, label: str) -> Estimate:
    """Inference of a row over its baseline's."""
    found = timing(run, label).speedup
    assert found is not None
    return found


def times_as_long(run: str, label: str) -> tuple[float, float, float]:
    """Its time over its baseline's, from the least to the most."""
    rate = speedup(run, label)
    assert rate.low is not None and rate.high is not None
    return 1 / rate.high, 1 / rate.value, 1 / rate.low


def shown_text(run: str) -> str:
    return flat("".join(table.render("text") for table in tables(shown(f"results/shown/{run}"))))


def minutes_of(run: str) -> float:
    (told,) = re.findall(r" cells in ([\d.]+) minutes", shown_text(run))
    return float(told)


def from_the_runs() -> Iterator[tuple[str, str]]:
    """Sentences whose numbers are worked out from a run, and stand in no table of it."""
    acmix, compiled = (times_as_long("latency-16", f"resnet50-{name}") for name in ("acmix", "fused-compiled"))
    fused, shorter = (times_as_long("latency", f"resnet50-{name}") for name in ("fused", "fused-compiled"))
    plain = times_as_long("latency", "resnet50-plain-fused-compiled")[1]
    yield (
        "docs/fast.md",
        f"takes {acmix[1]:.2f} times as long as torchvision's ResNet-50 and {compiled[1]:.2f} times "
        f"({compiled[0]:.2f} to {compiled[2]:.2f}) when it is fused and compiled",
    )
    yield (
        "docs/fast.md",
        f"fused alone it is {fused[1]:.1f} ([8 processes](../results/shown/latency/table.md), where the compiled one "
        f"comes out at {shorter[1]:.2f}, from {shorter[0]:.2f} to {shorter[2]:.2f})",
    )
    yield "docs/fast.md", f"takes {plain:.2f} times as long as it does plain, so like with like the factor is"
    yield "docs/fast.md", f"like with like the factor is {compiled[1] / plain:.1f}."
    yield "docs/speed.md", f"{acmix[1]:.2f} and {compiled[1]:.2f} times its latency"
    names = ("acmix", "fused", "plain-fused")
    plainly, fused, plain_fused = (speedup("native-avx2", f"resnet50-{name}") for name in names)
    alone = [
        f"{speedup('native-avx2', f'operator-{at}').value:.2f}"
        for at in ("64-fused@56", "128-fused@28", "256-fused@14", "512-fused@7")
    ]
    ends = [f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in (plainly, fused, plain_fused)]
    list_of_alone = f"{', '.join(alone[:3])} and {alone[3]}"
    yield (
        "docs/speed.md",
        f"ResNet-50-ACmix comes to {ends[0]} of ResNet-50, fused to {ends[1]} (ResNet-50 itself, fused: {ends[2]}), "
        f"and the fused operator to {list_of_alone} of the convolution's throughput",
    )
    yield (
        "README.md",
        f"With AVX2 it is {plainly.value:.2f} and {fused.value:.2f} in the network, and alone {list_of_alone}",
    )
    low, value, high = times_as_long("native-networks", "swin-t-acmix")
    yield "docs/speed.md", f"takes {value:.2f} [{low:.2f}, {high:.2f}] times as long as Swin-T"
    fused, compiled, plain_compiled = (
        speedup("native", f"resnet50-{name}").value for name in ("fused", "fused-compiled", "plain-fused-compiled")
    )
    unfused = speedup("native", "resnet50-acmix").value
    told = f"faster than ResNet-50 as it is, by {unfused - 1:.0%}, fused by {fused - 1:.0%}"
    yield "docs/speed.md", told.replace("%", " %")
    yield "docs/speed.md", f"by {compiled / plain_compiled - 1:.0%} than ResNet-50 so treated".replace("%", " %")
    for batch, run in ((1, "native-batch-1"), (4, "native"), (16, "native-batch-16")):
        timings = [timing(run, f"resnet50-{name}") for name in names]
        cells = " | ".join(ratio(one.speedup, one.noise_floor or 0.0) for one in timings)
        yield "docs/speed.md", f"| {batch} | {cells} | [{run}]"
    ours, theirs = minutes_of("paths"), minutes_of("paths-reference")
    yield "docs/speed.md", f"takes {ours} minutes in ours"
    yield "docs/speed.md", f"and took {theirs:.0f} in that, in an earlier version ([results/shown/paths-reference]"
    records = shown("results/shown/paths-cluttered").run.records
    scores = [
        by_seed([one for one in records if one.cell.row.label == label], "accuracy")
        for label in ("baseline", "paths=attention")
    ]
    behind = [100 * (scores[0][seed] - scores[1][seed]) for seed in scores[0]]
    assert min(behind) > 0
    yield "docs/training.md", f"behind in every seed, by {min(behind):.0f} to {max(behind):.0f} points"
    exponents = re.findall(r"\^?(\d\.\d\d)", (ROOT / "results/shown/native/growth.svg").read_text())
    assert {"1.81", "1.95", "1.45", "1.92"} <= set(exponents)
    yield "docs/speed.md", "counts squared (1.81 to 1.95)"
    yield "docs/speed.md", "by a power of 1.45, the convolution by 1.92"


def from_the_gate() -> Iterator[tuple[str, str]]:
    kept = json.loads((ROOT / "results/shown/detection.json").read_text())["results"]
    seconds = [one["seconds"] for one in kept]
    width = median((one["high"] - one["low"]) / 2 for one in kept)
    yield (
        "docs/measuring.md",
        f"took {median(seconds):.0f} seconds at the median ({median(one['pairs'] for one in kept):.0f} pairs of "
        f"processes, interval ±{width:.1%}) and {max(seconds):.0f} at most".replace("%", " %"),
    )
    none, two, five = (median(one["ratio"] for one in kept if one["again"] == images) for images in (0, 2, 5))
    told = f"The median ratio was {none:.3f} in A/A, {two:.3f} for the 2 % and {five:.3f} for the 5 %"
    yield "docs/measuring.md", told
    unclear = [one for one in kept if one["again"] == 2 and one["without_limit"] != "regression"]
    yield "docs/measuring.md", f"in {len(unclear)} of 10 tries it does not clear the noise either"


@pytest.mark.parametrize("told", [from_the_runs, from_the_gate])
def test_every_number_that_is_worked_out_from_a_run_is_right(told: Callable[[], Iterator[tuple[str, str]]]) -> None:
    for page, sentence in told():
        assert sentence in flat(TEXT[page]), page


def test_a_time_that_is_told_twice_is_one_time() -> None:
    """`make test` and `make ablate`, and an experiment's own file."""
    for target in ("test", "ablate"):
        lines = re.findall(rf"^    make {target} +# (.*)$", "\n".join(TEXT.values()), re.MULTILINE)
        told = {found for line in lines for found in re.findall(r"\d+ to \d+ minutes", line)}
        assert len(told) == 1, told
    assert told == {library.load_experiment("paths").time}


def test_the_operators_parameters_are_as_told() -> None:
    same = {"heads": 4, "kernel_size": 3, "paths": "both", "mix": "alpha-beta", "shift": "group", "kernel": "learned"}
    ours = [operator_parameters(width, width, **same) for width in (64, 128, 256, 512)]
    told = "{:,} parameters at 64 channels, {:,} at 128, {:,} at 256 and {:,} at 512".format(*ours)
    assert told in flat(TEXT["docs/operator.md"])
    convolution = "has {:,}, {:,}, {:,} and {:,}.".format(*(9 * width**2 for width in (64, 128, 256, 512)))
    assert convolution in flat(TEXT["docs/operator.md"])


@full
def test_the_dense_counts_are_as_told() -> None:
    rows = re.findall(
        r"^\| (Swin-\w), ([^,|]+)(?:, ([\dx]+))? \| ([\d.]+), ([\d.]+) \|", TEXT["docs/dense.md"], re.MULTILINE
    )
    assert len(rows) == 5
    heads = {"UPerNet": "upernet", "Mask R-CNN": "mask-rcnn", "Cascade Mask R-CNN": "cascade-mask-rcnn"}
    names = [f"{model}+{heads[head]}@{size or '800x1280'}".lower() for model, head, size, *_ in rows]
    counted = acmix_bench.flops(*names)
    assert list(counted["variant"]) == names
    for row, parameters, macs in zip(rows, counted["parameters"], counted["macs"], strict=True):
        assert row[3:] == (f"{parameters / 1e6:.2f}", f"{macs / 1e9:.1f}")


def test_the_claims_are_those_of_the_committed_records() -> None:
    """The table on its page, and of each claim in the README the statement, the verdict and what was measured."""
    judged, table = claims_shown()
    assert table.render("md") in TEXT["docs/claims.md"]
    rows = iter(table.rows)
    for one in judged:
        measured = "; ".join(next(rows)[3] for _ in one.findings)
        assert f"| {one.claim.statement} | {one.verdict} | {measured} |" in TEXT["README.md"]
    assert TEXT["README.md"].count(" | supported | ") == sum(one.verdict == "supported" for one in judged)
