"""What the README and the docs show is what the committed records give, and what they tell to type exists."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import ALL_RUNS, BLOCKS, GENERATED, PAGES, ROOT, SHOWN, TEXT, WRITTEN, flat, prose, shown
from typer.testing import CliRunner

from acmix_bench import ablate as flow
from acmix_bench.analysis.thresholds import load_thresholds
from acmix_bench.cli import app
from acmix_bench.report.table import tables
from acmix_bench.report.verify import verify
from acmix_bench.runs.merge import MAY_DIFFER
from acmix_bench.spec import library
from acmix_bench.spec.claim import load_claims
from acmix_bench.spec.variant import AXES

GROUP: Any = typer.main.get_command(app)
COMMANDS = {name: command for name, command in GROUP.commands.items() if not command.hidden}
RUNS = (
    *("paths", "paths-cluttered", "shift-cluttered", "scenes-segment", "scenes-detect", "fps"),
    *("speed", "training", "speed-default", "latency", "memory", "native", "native-networks", "ledger"),
    *("latency-gpu", "backbones"),
)


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
    for name in ("table.md", "table.csv"):
        verdict = verify(folder / name, ROOT)
        assert verdict.differences == []
        assert all(line.startswith("rendered by acmix-bench ") for line in verdict.told), "they were not made again"
        assert verdict.numbers > 10


def test_the_ledger_is_what_the_command_prints() -> None:
    """What this package counts itself; what other libraries' counters say depends on their versions."""
    printed = CliRunner().invoke(app, ["flops", "operator-64-acmix@28", "--strict"])
    assert printed.exit_code == 0
    row = r"operator-64-acmix@28 +20\.0 M +20\.0 M \(=\) +25\.2 M +55\.4 M"
    assert re.search(row, dict(SHOWN)["results/shown/ledger"])
    assert re.search(row, printed.stdout)


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
    elif name == "experiments/claims.yaml":
        assert load_claims(path).claims
    elif name.startswith("experiments/"):
        assert len(flow.rows_of(library.load_experiment(str(path)))) > 1
    else:
        library.load_variant(str(path))


def test_the_glossary_is_short() -> None:
    glossary = TEXT["docs/architecture.md"].partition("## Words")[2].partition("\n## ")[0]
    assert 5 <= len(re.findall(r"\*\*", glossary)) // 2 <= 15
