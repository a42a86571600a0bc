"""What the README and the docs show is what the committed records give, and what they tell to type exists."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import runpy
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import acmix_bench
from acmix_bench import ablate as flow
from acmix_bench.analysis.compare import Comparison, by_seed, compare
from acmix_bench.analysis.thresholds import load_thresholds
from acmix_bench.cli import app
from acmix_bench.ops.cost import operator_parameters
from acmix_bench.report.frame import to_csv
from acmix_bench.report.table import render, tables
from acmix_bench.runs.merge import MAY_DIFFER
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.variant import AXES
from acmix_bench.stats import Estimate

ROOT = Path(__file__).parent.parent
GENERATED = "docs/commands.md"
WRITTEN = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
WRITTEN.remove(GENERATED)
PAGES = [
    *WRITTEN,
    GENERATED,
    "CONTRIBUTING.md",
    "results/README.md",
    "results/published/README.md",
    "examples/mixers/README.md",
]
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
GROUP: Any = typer.main.get_command(app)
COMMANDS = {name: command for name, command in GROUP.commands.items() if not command.hidden}

# A block of tool output opens with the run that it shows: ```text results/shown/paths
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(page, *block) for page in PAGES for block in FENCE.findall(TEXT[page])]
SHOWN = [(info.removeprefix("text "), block) for _, info, block in BLOCKS if info.startswith("text")]
RUNS = (
    *("paths", "paths-cluttered", "shift-cluttered", "scenes-segment"),
    *("speed", "training", "speed-default", "latency", "memory", "native", "native-networks", "ledger"),
    "backbones",
)
ALL_RUNS = sorted(path.parent for path in (ROOT / "results" / "shown").glob("*/run.json"))


@cache
def shown(run: str) -> Comparison:
    return compare(Store(ROOT / run).load())


def prose(page: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", TEXT[page])


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_readme_is_short() -> None:
    lines = TEXT["README.md"].splitlines()
    assert len(lines) <= 150
    (first,) = [number for number, line in enumerate(lines) if line.startswith("    make ablate ")]
    assert lines[first + 1].startswith("    make test ")
    assert first < 25
    ((info, block),) = [block for page, *block in BLOCKS if page == "README.md"]
    assert info == "text results/shown/paths"
    assert block == tables(shown("results/shown/paths"))[0].render("text")
    assert TEXT["README.md"].count("![") == 1


def test_every_block_says_what_it_is() -> None:
    """So that no output of the tool stands anywhere without the run that it is held against."""
    for page, info, _ in BLOCKS:
        assert re.fullmatch(r"python|yaml|text results/shown/[\w-]+", info), f"{page}: ```{info}"
    for page in PAGES:
        assert "```" not in prose(page), f"{page}: a fence that FENCE does not read"
        assert not re.search(r"^\s+-{3,}  +-{3,}", prose(page), re.MULTILINE), f"{page}: output outside of a block"
    assert {run for run, _ in SHOWN} == {f"results/shown/{run}" for run in RUNS}


@pytest.mark.parametrize(("run", "block"), SHOWN, ids=[run for run, _ in SHOWN])
def test_the_tables_are_those_of_the_committed_records(run: str, block: str) -> None:
    """Whole tables with all their notes, one after the other."""
    made = [table.render("text") for table in tables(shown(run))]
    parts = [(first, last) for last in range(1, len(made) + 1) for first in range(last)]
    assert block in ["\n".join(made[first:last]) for first, last in parts], f"not what `acmix-bench table {run}` prints"
    assert all(line.missing == 0 and not line.failures for line in shown(run).lines)


@pytest.mark.parametrize("folder", ALL_RUNS, ids=lambda folder: folder.name)
def test_the_committed_tables_are_those_of_the_records_beside_them(folder: Path) -> None:
    comparison = compare(Store(folder).load())
    assert (folder / "table.md").read_text() == render(comparison, "md")
    # The last digits of an interval depend on the version of scipy.
    kept, made = (
        list(csv.DictReader(io.StringIO(text))) for text in ((folder / "table.csv").read_text(), to_csv(comparison))
    )
    assert [list(row) for row in kept] == [list(row) for row in made]
    for ours, theirs in zip(made, kept, strict=True):
        for key, value in ours.items():
            assert value == theirs[key] or float(value) == pytest.approx(float(theirs[key]), rel=1e-7)


def test_the_ledger_is_what_the_command_prints() -> None:
    """What this package counts itself; what other libraries' counters say depends on their versions."""
    printed = CliRunner().invoke(app, ["flops", "operator-64-acmix@28", "--strict"])
    assert printed.exit_code == 0
    row = r"operator-64-acmix@28 +20\.0 M +20\.0 M \(=\) +25\.2 M +55\.4 M"
    assert re.search(row, dict(SHOWN)["results/shown/ledger"])
    assert re.search(row, printed.stdout)


def findings() -> list[str]:
    section = TEXT["README.md"].partition("## What it found\n")[2].partition("\n## ")[0]
    return section.split("\n- ")[1:]


@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.partition("**")[2].partition(".")[0])
def test_every_number_found_is_in_the_run_that_it_links(finding: str) -> None:
    linked = re.findall(r"\]\((results/shown/[\w./-]+)\)", finding)
    assert linked
    told = "".join((ROOT / path).read_text() for path in linked)
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


def speedup(run: str, label: str) -> Estimate:
    """Inference of a row over its baseline's."""
    (line,) = [line for line in shown(f"results/shown/{run}").lines if line.row.label == label]
    found = line.timings["inference"].speedup
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
        "docs/architecture.md",
        f"takes {acmix[1]:.2f} times as long as torchvision's ResNet-50 and {compiled[1]:.2f} times "
        f"({compiled[0]:.2f} to {compiled[2]:.2f}) when it is fused and compiled",
    )
    yield (
        "docs/architecture.md",
        f"fused alone it is {fused[1]:.1f} ([8 processes](../results/shown/latency/table.md), where the compiled one "
        f"comes out at {shorter[1]:.2f}, from {shorter[0]:.2f} to {shorter[2]:.2f})",
    )
    yield "docs/architecture.md", f"takes {plain:.2f} times as long as it does plain, so like with like the factor is"
    yield "docs/architecture.md", f"like with like the factor is {compiled[1] / plain:.1f}."
    yield "docs/measuring.md", f"{acmix[1]:.2f} and {compiled[1]:.2f} times its latency"
    at_56 = speedup("native", "operator-64-fused@56").value
    yield "docs/measuring.md", f"A speed-up of {at_56:.2f} is {1 / at_56:.2f} times the convolution's time"
    (noise,) = re.findall(r"Noise floor.*: inference (\S+ %)", shown_text("native-networks"))
    yield "docs/measuring.md", f"Four processes leave a noise floor of {noise},"
    ours, theirs = minutes_of("paths"), minutes_of("paths-reference")
    yield "docs/measuring.md", f"takes {ours} minutes in ours"
    yield "docs/measuring.md", f"and {theirs:.0f} in that ([results/shown/paths-reference]"
    records = shown("results/shown/paths-cluttered").run.records
    scores = [
        by_seed([one for one in records if one.cell.row.label == label], "accuracy")
        for label in ("baseline", "paths=attention")
    ]
    behind = [100 * (scores[0][seed] - scores[1][seed]) for seed in scores[0]]
    assert min(behind) > 0
    yield "docs/training.md", f"behind in every seed, by {min(behind):.0f} to {max(behind):.0f} points"
    exponents = re.findall(r"\^?(\d\.\d\d)", (ROOT / "results/shown/native/growth.svg").read_text())
    assert {"1.84", "2.01", "1.45", "1.92"} <= set(exponents)
    yield "docs/measuring.md", "counts squared (1.84 to 2.01)"
    yield "docs/measuring.md", "by a power of 1.45, the convolution by 1.92"


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
def test_every_number_that_is_worked_out_from_a_run_is_right(told: Any) -> None:
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


@pytest.mark.skipif(not os.environ.get("ACMIX_BENCH_FULL"), reason="nox -s full")
def test_the_dense_counts_are_as_told() -> None:
    rows = re.findall(
        r"^\| (Swin-\w), ([^,|]+)(?:, ([\dx]+))? \| ([\d.]+), ([\d.]+) \|", TEXT["docs/dense.md"], re.MULTILINE
    )
    assert len(rows) == 5
    names = [f"{model}+{head.replace(' ', '-')}@{size or '800x1280'}".lower() for model, head, size, *_ in rows]
    counted = acmix_bench.flops(*names)
    assert list(counted["variant"]) == names
    for row, parameters, macs in zip(rows, counted["parameters"], counted["macs"], strict=True):
        assert row[3:] == (f"{parameters / 1e6:.2f}", f"{macs / 1e9:.1f}")


def typed() -> Iterator[tuple[str, str]]:
    """Every command line in the pages that are written by hand, in a block of its own or within a sentence."""
    for page in WRITTEN:
        code = re.findall(r"^    ((?:\S*/)?acmix-bench .*)$", prose(page), re.MULTILINE)
        code += [flat(span) for span in re.findall(r"`(acmix-bench [^`]+)`", prose(page))]
        yield from ((page, re.sub(r"  +#.*", "", line)) for line in code)


def test_every_command_is_used() -> None:
    words = {line.split()[1] for _, line in typed()}
    assert set(COMMANDS) <= words


@pytest.mark.parametrize(("page", "line"), list(dict.fromkeys(typed())))
def test_what_is_told_to_type_exists(page: str, line: str) -> None:
    """The command, its options, and the keys of --set."""
    _, command, *words = shlex.split(line)
    assert command in COMMANDS or command.startswith("--") or command == "COMMAND"
    taken = {name for one in COMMANDS.get(command, GROUP).params for name in one.opts}
    for word in [command, *words]:
        assert not word.startswith("-") or word in taken | {"--help", "-h"}, f"{page}: {line}: {word}"
    keys = [after.partition("=")[0] for word, after in pairwise(words) if word == "--set"]
    assert set(keys) <= set(library.settings())


@pytest.mark.parametrize("page", WRITTEN)
def test_every_option_in_a_sentence_exists(page: str) -> None:
    known = {name for command in (GROUP, *COMMANDS.values()) for one in command.params for name in one.opts}
    for span in re.findall(r"`(--[^`]+)`", prose(page)):
        words = flat(span).split()
        assert words[0] in known | {"--help"}, span
        if words[0] == "--set" and "=" in span:
            assert words[1].partition("=")[0] in {*library.settings(), "key"}, span


def test_every_target_of_make_exists() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    for page in WRITTEN:
        for line in re.findall(r"^    make (.*?)(?:  |$)|`make ([^`]+)`", prose(page), re.MULTILINE):
            words = [word for word in "".join(line).split() if "=" not in word]
            assert set(words) <= set(targets), f"{page}: make {line}"


def test_the_page_of_commands_is_what_its_generator_gives() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "commands.py"))["page"]()
    assert TEXT[GENERATED] == made, f"{GENERATED} is out of date: make it again with `python docs/commands.py`"
    assert re.findall("^## (.*)$", made, re.MULTILINE) == list(COMMANDS)


def listed() -> dict[str, list[str]]:
    """What docs/ablate.md lists, in the words of what it lists."""
    experiments = {name: library.load_experiment(name) for name in library.known("experiment")}
    variants = {name: library.load_variant(name) for name in library.known("variant")}
    return {
        "Experiments": [
            f"- [`{name}`](../experiments/{name}.yaml), {one.time}: {one.question}" for name, one in experiments.items()
        ],
        "Variants and grids": [
            *(f"- `{name}`: {axis.meaning}" for name, axis in AXES.items() if name != "options"),
            *(f"- [`{name}`](../variants/{name}.yaml): {one.summary}" for name, one in variants.items()),
        ],
        "Settings": [f"- `{key}`: {meaning}" for key, meaning in library.settings().items()],
    }


@pytest.mark.parametrize("section", listed())
def test_what_is_listed_is_all_that_there_is(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = TEXT["docs/ablate.md"].partition(f"## {section}\n")[2].partition("\n## ")[0]
    items = [flat(item) for item in re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE)]
    assert items == [flat(item) for item in listed()[section]]


def test_what_may_differ_in_a_merge_is_told() -> None:
    told = flat(TEXT["docs/ablate.md"]).partition("Free to differ: ")[2].partition(". ")[0]
    assert told == ", ".join(f"`{key}`" for key in MAY_DIFFER)


YAML = [(page, block) for page, info, block in BLOCKS if info == "yaml"]


@pytest.mark.parametrize(("page", "block"), YAML, ids=[block.partition("\n")[0] for _, block in YAML])
def test_every_yaml_that_is_shown_can_be_read(page: str, block: str, tmp_path: Path) -> None:
    name = block.partition("\n")[0].removeprefix("# ")
    path = tmp_path / Path(name).name
    path.write_text(block)
    if path.stem == "thresholds":
        assert load_thresholds(path, library.load_experiment("regress").models) is not None
    elif name.startswith("experiments/"):
        assert len(flow.rows_of(library.load_experiment(str(path)))) > 1
    else:
        library.load_variant(str(path))


def headings(page: str) -> list[str]:
    """The fragments that a page's headings answer to, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = []
    for title in re.findall(r"^#{1,6} (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        found.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)]*)\)", prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        file, _, fragment = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if fragment:
            assert fragment in headings(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for name in re.findall(r"`((?:acmix_bench|examples|tests|results/published|results/shown)/[\w./-]+)`", TEXT[page]):
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_readme() -> None:
    index = TEXT["README.md"].partition("## Where to go on\n")[2]
    assert [page for page in PAGES if page.startswith("docs/") and f"]({page})" not in index] == []


def test_the_glossary_is_short() -> None:
    glossary = TEXT["docs/architecture.md"].partition("## Words")[2].partition("\n## ")[0]
    assert 5 <= len(re.findall(r"\*\*", glossary)) // 2 <= 15


MADE = runpy.run_path(str(ROOT / "docs" / "made.py"))


def test_the_site_has_every_page() -> None:
    pages = {f"{page}.md" for group in MADE["CONTENTS"].values() for page in group}
    assert set(PAGES) - pages == {"README.md"}
    assert {page for page in pages if not (ROOT / page).exists()} <= {"docs/experiments/index.md", "docs/claims.md"}
    for _, modules in MADE["REFERENCE"].values():
        for module in modules:
            path = ROOT / "acmix_bench" / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_every_experiment_has_a_page_with_its_shown_runs(tmp_path: Path) -> None:
    MADE["write"](tmp_path)
    made = {path.stem: path.read_text() for path in (tmp_path / "docs" / "experiments").glob("*.md")}
    ours = {path.stem for path in (ROOT / "experiments").glob("*.yaml") if path.stem != "claims"}
    assert ours < set(made)
    assert {name for name in ours if library.load_experiment(name).expected not in made[name]} == set()
    for folder in ALL_RUNS:
        ((name, page),) = [(name, page) for name, page in made.items() if f"## The run {folder.name}\n" in page]
        assert (folder / "table.md").read_text().strip() in page
        link = MADE["with_links"](f"[it](../results/shown/{folder.name}/table.md)", "docs/measuring")
        assert link == f"[it](/docs/experiments/{name}.md#the-run-{folder.name})"
    assert MADE["with_links"]("[it](../experiments/paths.yaml)", "docs/ablate") == "[it](/docs/experiments/paths.md)"


def test_a_dead_link_and_what_a_network_gives_are_found_in_a_site(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text('<a id="top" href="docs/a.html#b">x</a><a href="https://example.org">y</a>')
    (tmp_path / "docs" / "a.html").write_text('<p id="b"><a href="../index.html#top">x</a><img src="../mark.png?v=1">')
    (tmp_path / "mark.png").touch()
    faults = runpy.run_path(str(ROOT / "docs" / "check_site.py"))["faults"]
    assert list(faults(tmp_path)) == []
    (tmp_path / "bad.html").write_text(
        '<a href="none.html">x</a><a href="docs/a.html#c">y</a><script src="https://example.org/a.js"></script>'
    )
    (tmp_path / "bad.css").write_text(
        "@import url(//example.org/a.css); p { background: url('https://example.org/b') }"
    )
    assert [fault.partition(": ")[2] for fault in faults(tmp_path)] == [
        "loads https://example.org/a.js",
        "no file none.html",
        "no such place docs/a.html#c",
        "loads //example.org/a.css",
        "loads https://example.org/b",
    ]
